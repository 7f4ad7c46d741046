// Helper for warm commands in Node: serve(work) calls work(datum) for each datum; work may be async.
// datum.in is the path of the first input, datum.out the directory for results. An exception fails this datum only.

const fs = require("node:fs");
const readline = require("node:readline");

const answers = Number(process.env.PADDOCK_WARM_OUT);
const say = (document) => fs.writeSync(answers, JSON.stringify(document) + "\n");

exports.serve = async (work) => {
  const tasks = fs.createReadStream("", { fd: Number(process.env.PADDOCK_WARM_IN), encoding: "utf8" });
  say({ ready: true });
  for await (const line of readline.createInterface({ input: tasks, crlfDelay: Infinity })) {
    const datum = JSON.parse(line);
    try {
      await work(datum);
      say({ id: datum.id, ok: true });
    } catch (error) {
      console.error(error);
      say({ id: datum.id, error: String(error) });
    }
  }
};
