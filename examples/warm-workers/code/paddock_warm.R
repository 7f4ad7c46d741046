# Helper for warm commands in R: serve(work) calls work(datum) for each datum. Needs the package jsonlite.
# datum$`in` is the path of the first input, datum$out the directory for results. An error fails this datum only.

serve <- function(work) {
  tasks <- file(paste0("/dev/fd/", Sys.getenv("PADDOCK_WARM_IN")), "r", blocking = TRUE)
  answers <- file(paste0("/dev/fd/", Sys.getenv("PADDOCK_WARM_OUT")), "w")
  say <- function(document) {
    writeLines(jsonlite::toJSON(document, auto_unbox = TRUE), answers)
    flush(answers)
  }
  say(list(ready = TRUE))
  while (length(line <- readLines(tasks, n = 1)) > 0) {
    datum <- jsonlite::fromJSON(line, simplifyVector = FALSE)
    problem <- tryCatch({
      work(datum)
      NULL
    }, error = function(error) {
      message(conditionMessage(error))
      conditionMessage(error)
    })
    flush(stdout())
    say(if (is.null(problem)) list(id = datum$id, ok = TRUE) else list(id = datum$id, error = problem))
  }
}
