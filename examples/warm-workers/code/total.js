const fs = require("node:fs");
const path = require("node:path");
const { serve } = require("./paddock_warm.js");

serve((datum) => {
  const numbers = fs.readFileSync(datum.in, "utf8").split(/\s+/).filter(Boolean);
  const total = numbers.reduce((sum, number) => sum + Number(number), 0);
  fs.writeFileSync(path.join(datum.out, path.basename(datum.in)), `${total}\n`);
});
