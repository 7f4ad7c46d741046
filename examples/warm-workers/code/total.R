source("paddock_warm.R")

serve(function(datum) {
  numbers <- scan(datum$`in`, quiet = TRUE)
  writeLines(format(sum(numbers), scientific = FALSE), file.path(datum$out, basename(datum$`in`)))
})
