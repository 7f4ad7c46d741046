/* The runner: the entry point of a user's container. It starts commands there for a worker in another container.

       runner SOCKET                   listen, serve one worker, end with it
       runner --install TARGET [OUT]   copy this program to TARGET, and make the folder OUT, open to all
       runner --init COMMAND…          be process 1 for COMMAND, in a container of ours
       runner --version

   It needs nothing of the image that it runs in: no libraries, no shell, no user. Process 1 there, it reaps what commands leave. */

#define _GNU_SOURCE
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { PARKED = 10, READY_MARK = 1, READY_WRITABLE = 2, READY_OUT = 4 };

static struct answer answer;
static int worker = -1;

static int fail(const char *what, const char *name) {
    fprintf(stderr, "paddock runner: can't %s %s: %s\n", what, name, strerror(errno));
    return 1;
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

static bool below(const char *folder, const char *name, int mode) {
    char path[PATH_BYTES];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path && access(path, mode) == 0;
}

static void put_environment(void) {
    uint32_t count = 0;
    while (environ[count] != NULL)
        count++;
    put_u32(&answer, count);
    for (uint32_t index = 0; index < count; index++)
        put_text(&answer, environ[index]);
}

static void say_error(uint32_t id, const char *what) {
    answer_begin(&answer, ERROR, id);
    put_text(&answer, what);
    answer_send(&answer, worker);
}

/* End what runs, and say what is here. `mark` is in `folder` if this is the folder that the worker means. */
static void reset(struct message *request) {
    const char *folder = take_text(request), *mark = take_text(request), *shared = take_text(request);
    char cwd[PATH_BYTES];
    command_forget();
    if (request->bad || !settle_in(folder, shared)) {
        say_error(request->id, "a reset needs the absolute paths of two folders, and a mark");
        return;
    }
    uint32_t flags = below(folder, mark, F_OK) ? READY_MARK : 0;
    flags |= access(folder, W_OK) == 0 ? READY_WRITABLE : 0;
    flags |= below(folder, "out", W_OK | X_OK) ? READY_OUT : 0;
    answer_begin(&answer, READY, request->id);
    put_u32(&answer, PROTOCOL_VERSION);
    put_u32(&answer, getuid());
    put_u32(&answer, getgid());
    put_u32(&answer, flags);
    put_u64(&answer, memory_limit());
    put_text(&answer, getcwd(cwd, sizeof cwd) != NULL ? cwd : "/");
    put_environment();
    answer_send(&answer, worker);
}

static void say_settled(struct message *request) {
    char failed[PATH_BYTES] = "";
    int error = settle((int)take_u32(request), failed);
    answer_begin(&answer, SETTLED, request->id);
    put_u32(&answer, (uint32_t)error);
    put_text(&answer, error != 0 ? failed : "");
    answer_send(&answer, worker);
}

static void say_measured(struct message *request) {
    uint64_t memory = memory_of_all(take_u64(request));
    answer_begin(&answer, MEASURED, request->id);
    put_u64(&answer, memory);
    answer_send(&answer, worker);
}

/* A signal for a command that has ended meanwhile is for nobody. */
static void pass_signal(struct message *request) {
    uint32_t number = take_u32(request);
    if (command != 0 && running == request->id && number > 0 && number < 65)
        kill(-command, (int)number);
}

static void obey(struct message *request) {
    switch (request->type) {
    case RESET:
        reset(request);
        break;
    case START:
        command_start(request, worker);
        break;
    case SIGNAL:
        pass_signal(request);
        break;
    case END:
        if (running == request->id)
            command_kill();
        break;
    case SETTLE:
        say_settled(request);
        break;
    case MEMORY:
        say_measured(request);
        break;
    default:
        say_error(request->id, "no such request");
    }
}

static void report_end(void) {
    struct ended ended;
    if (!command_reap(&ended))
        return;
    answer_begin(&answer, EXITED, running);
    put_u32(&answer, (uint32_t)ended.code);
    put_u32(&answer, ended.oom_kills);
    put_u64(&answer, ended.user_us);
    put_u64(&answer, ended.system_us);
    put_u64(&answer, ended.resident_kib_max);
    answer_send(&answer, worker);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

/* Descriptors 0 to 9 are taken, so that none that a worker sends has a number that a command is to have. */
static int park_descriptors(void) {
    int descriptor;
    do
        descriptor = open("/", O_PATH | O_CLOEXEC);
    while (descriptor >= 0 && descriptor < PARKED);
    if (descriptor < 0)
        return fail("open", "/");
    close(descriptor);
    return 0;
}

/* Signals are read from a descriptor. Commands get an empty mask, and SIGPIPE as it is by default. */
static int open_signals(void) {
    sigset_t signals;
    sigemptyset(&signals);
    for (int each = 0; each < 4; each++)
        sigaddset(&signals, (const int[]){SIGCHLD, SIGTERM, SIGINT, SIGHUP}[each]);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    unlink(path);
    /* The worker is another user. Nobody else's code runs here before it has connected, and then nobody can any more. */
    mode_t before = umask(0);
    bool bound = listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0;
    umask(before);
    return bound ? listener : -1;
}

/* Take the signals that have come; whether one of them asks to end. SIGCHLD needs no more than the waking up. */
static bool asked_to_end(int signals) {
    struct signalfd_siginfo news;
    bool asked = false;
    while (read(signals, &news, sizeof news) == sizeof news)
        asked |= news.ssi_signo != SIGCHLD;
    return asked;
}

/* Wait for a worker; false if a signal came first. Children that others left here are reaped meanwhile. */
static bool await_worker(int listener, int signals) {
    struct pollfd watched[] = {{.fd = listener, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    struct ended ended;
    while (worker < 0) {
        poll(watched, 2, -1);
        bool asked = asked_to_end(signals);
        command_reap(&ended);
        /* One that has connected by now was there first. */
        if (poll(watched, 1, 0) > 0)
            worker = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        else if (asked)
            return false;
    }
    return true;
}

/* While a worker is there, signals to end are its business: it lets the datum at work come to its end, and leaves. */
static void serve(int signals) {
    struct pollfd watched[] = {{.fd = worker, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    struct message request;
    for (;;) {
        poll(watched, 2, -1);
        if (watched[1].revents) {
            asked_to_end(signals);
            report_end();
        }
        if (!watched[0].revents)
            continue;
        int received = receive(worker, &request);
        if (received == 0)
            return;
        if (received < 0)
            say_error(0, explain);
        else
            obey(&request);
        release(&request);
    }
}

static int run(const char *path) {
    int signals = open_signals();
    const struct rlimit none = {0, 0};
    if (signals < 0)
        return fail("read signals for", path);
    if (park_descriptors() != 0)
        return 1;
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int listener = listen_at(path);
    if (listener < 0)
        return fail("listen at", path);
    bool connected = await_worker(listener, signals);
    unlink(path);
    close(listener);
    if (connected)
        serve(signals);
    command_forget();
    return 0;
}

/* outputs: a folder to make, or NULL. Everyone may write there, and its owner, who makes it here, may remove what others leave: of one that
   a kubelet makes in memory that is not so, since the volume's root is sticky (as /tmp is), and what it makes there, too. */
static int install(const char *target, const char *outputs) {
    char buffer[1 << 16], path[PATH_BYTES];
    int source = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (source < 0 || snprintf(path, sizeof path, "%s.new", target) >= (int)sizeof path)
        return fail("read", "this program");
    int copy = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    ssize_t size = copy < 0 ? -1 : 1;
    while (size > 0 && (size = read(source, buffer, sizeof buffer)) > 0)
        if (write(copy, buffer, (size_t)size) != size)
            size = -1;
    if (size < 0 || fchmod(copy, 0755) != 0 || close(copy) != 0 || rename(path, target) != 0)
        return fail("write", target);
    umask(0);
    if (outputs != NULL && mkdir(outputs, 0777) != 0 && errno != EEXIST)
        return fail("make", outputs);
    return 0;
}

/* ---- process 1 for another program ------------------------------------------------------------------------------ */

/* How the child's end is told: a signal that was passed on and ended it did what was asked. */
static int code_of(int status, int passed) {
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status);
    return WTERMSIG(status) == passed ? 0 : 128 + WTERMSIG(status);
}

/* To process 1 the kernel gives no signal that it has not asked for, so a program that is told to end while it still starts would
   run until it is killed. As another process it ends. */
static int init(char **program) {
    sigset_t all, before;
    int status, passed = 0;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t child = fork();
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        execvp(program[0], program);
        _exit(fail("start", program[0]) + 126);
    }
    if (child < 0)
        return fail("start", program[0]);
    for (;;) {
        int signal = sigwaitinfo(&all, NULL);
        if (signal != SIGCHLD) {
            if (signal > 0)
                kill(child, passed = signal);
            continue;
        }
        pid_t ended;
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
            if (ended == child)
                return code_of(status, passed);
    }
}

int main(int count, char **words) {
    if (count == 2 && strcmp(words[1], "--version") == 0)
        return printf("paddock runner, protocol %d\n", PROTOCOL_VERSION) < 0;
    if ((count == 3 || count == 4) && strcmp(words[1], "--install") == 0)
        return install(words[2], count == 4 ? words[3] : NULL);
    if (count >= 3 && strcmp(words[1], "--init") == 0)
        return init(words + 2);
    if (count == 2 && words[1][0] != '-')
        return run(words[1]);
    fputs("usage: runner SOCKET | runner --install TARGET [OUT] | runner --init COMMAND... | runner --version\n", stderr);
    return 2;
}
