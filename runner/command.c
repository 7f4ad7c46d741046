/* One command at a time: started as the worker asks, and ended with everything that it has started. */

#define _GNU_SOURCE
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GROUPS_MAX = 64, NAME_BYTES = 256, SWEEPS_MAX = 1000, KIND_SWEEPS = 3 };

pid_t command;
uint32_t running;

static bool main_ended;
static struct ended result;
static uint32_t kills_before;

struct wanted {
    uint32_t mask;
    char *cwd, *user;
    char **words, **environment;
    struct message *request;
    bool change_user;
    uid_t uid;
    gid_t gid;
    gid_t groups[GROUPS_MAX];
    int group_count;
};

/* Why a start failed. The child writes it: until it executes the program, its memory is this process's own. */
static volatile struct {
    uint32_t stage;
    int error;
} failure;
static char tried[PATH_BYTES];

/* ---- the user -------------------------------------------------------------------------------------------------- */

static bool number_of(const char *text, unsigned long *number) {
    char *end;
    *number = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0;
}

/* Field `index` of a line whose fields colons end; cuts the line up, so from the last wanted to the first. */
static char *field_of(char *line, int index) {
    char *place = line;
    while (index-- > 0) {
        place = strchr(place, ':');
        if (place == NULL)
            return NULL;
        place++;
    }
    return place;
}

/* The number in `name:x:NUMBER:…` of a file like /etc/passwd, for a name or for a number itself; `more` may be NULL. */
static bool find_entry(const char *path, const char *wanted, unsigned long *number, unsigned long *more, char *name) {
    FILE *file = fopen(path, "re");
    char line[1024];
    bool found = false;
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        char *second = field_of(line, 2), *third = field_of(line, 3);
        if (second == NULL || third == NULL)
            continue;
        unsigned long group = strtoul(third, NULL, 10);
        third[-1] = 0;
        strchr(line, ':')[0] = 0;
        if (strcmp(line, wanted) != 0 && strcmp(second, wanted) != 0)
            continue;
        found = number_of(second, number);
        if (more != NULL)
            *more = group;
        if (name != NULL)
            snprintf(name, NAME_BYTES, "%.255s", line);
    }
    if (file != NULL)
        fclose(file);
    return found;
}

static bool names_member(const char *members, const char *name) {
    size_t length = strlen(name);
    for (const char *each = members; each != NULL && *each != 0; each = strchr(each, ',')) {
        each += *each == ',';
        if (strncmp(each, name, length) == 0 && strchr(",\n", each[length]) != NULL)
            return true;
    }
    return false;
}

/* The groups of /etc/group that have `name` as a member, after the first one. */
static void add_groups(struct wanted *wanted, const char *name) {
    FILE *file = fopen("/etc/group", "re");
    char *line = NULL;
    size_t room = 0;
    while (file != NULL && *name != 0 && wanted->group_count < GROUPS_MAX && getline(&line, &room, file) > 0) {
        char *number = field_of(line, 2), *members = field_of(line, 3);
        if (members != NULL && names_member(members, name))
            wanted->groups[wanted->group_count++] = (gid_t)strtoul(number, NULL, 10);
    }
    free(line);
    if (file != NULL)
        fclose(file);
}

/* `USER` or `USER:GROUP`, each a name or a number; a number need not be in the files. */
static bool look_up_user(struct wanted *wanted) {
    char user[NAME_BYTES], name[NAME_BYTES] = "";
    unsigned long uid, gid = 0;
    if (*wanted->user == 0)
        return true;
    snprintf(user, sizeof user, "%s", wanted->user);
    char *group = strchr(user, ':');
    if (group != NULL)
        *group++ = 0;
    if (!find_entry("/etc/passwd", user, &uid, &gid, name) && !number_of(user, &uid))
        return false;
    if (group != NULL && !find_entry("/etc/group", group, &gid, NULL, NULL) && !number_of(group, &gid))
        return false;
    wanted->uid = (uid_t)uid;
    wanted->gid = (gid_t)gid;
    wanted->groups[wanted->group_count++] = wanted->gid;
    add_groups(wanted, name);
    wanted->change_user = wanted->uid != getuid() || (wanted->gid != getgid() && getuid() == 0);
    return true;
}

/* ---- starting -------------------------------------------------------------------------------------------------- */

static int child_fails(uint32_t stage) {
    failure.stage = stage;
    failure.error = errno;
    return -1;
}

/* In the child. The system calls themselves: a C library would let other threads follow, and there are none. */
static int become_user(const struct wanted *wanted) {
    if (!wanted->change_user)
        return 0;
    /* Groups that the container gave (of its volumes, say) stay, as they do for the container's own user. */
    gid_t groups[GROUPS_MAX * 2];
    int count = getgroups(GROUPS_MAX, groups);
    count = count < 0 ? 0 : count;
    for (int index = 0; index < wanted->group_count; index++)
        groups[count++] = wanted->groups[index];
    if (syscall(SYS_setgroups, count, groups) != 0 || syscall(SYS_setresgid, wanted->gid, wanted->gid, wanted->gid) != 0 ||
        syscall(SYS_setresuid, wanted->uid, wanted->uid, wanted->uid) != 0)
        return child_fails(AT_USER);
    return 0;
}

static bool is_file(const char *path) {
    struct stat state;
    return stat(path, &state) == 0 && S_ISREG(state.st_mode);
}

static const char *search_path(char *const *environment) {
    for (; *environment != NULL; environment++)
        if (strncmp(*environment, "PATH=", 5) == 0)
            return *environment + 5;
    return "/bin:/usr/bin";
}

/* In the child: execute the first file of the search path that can be; returns only if none can. */
static int execute(const struct wanted *wanted) {
    const char *name = wanted->words[0];
    static char unusable[PATH_BYTES];
    unusable[0] = 0;
    if (strchr(name, '/') != NULL) {
        snprintf(tried, sizeof tried, "%s", name);
        execve(name, wanted->words, wanted->environment);
        return child_fails(AT_EXEC);
    }
    for (const char *folder = search_path(wanted->environment); folder != NULL;) {
        const char *end = strchrnul(folder, ':');
        int length = (int)(end - folder);
        int size = snprintf(tried, sizeof tried, "%.*s%s%s", length, folder, length > 0 ? "/" : "", name);
        folder = *end != 0 ? end + 1 : NULL;
        if (size >= (int)sizeof tried || !is_file(tried))
            continue;
        execve(tried, wanted->words, wanted->environment);
        if (errno != EACCES)
            return child_fails(AT_EXEC);
        memcpy(unusable, tried, sizeof unusable);
    }
    memcpy(tried, unusable, sizeof tried);
    return child_fails(unusable[0] != 0 ? AT_EXECUTABLE : AT_SEARCH);
}

/* In the child, which shares this process's memory, but neither its descriptors nor its signals. */
static int become_command(const struct wanted *wanted) {
    sigset_t none;
    sigemptyset(&none);
    setsid();
    umask((mode_t)wanted->mask);
    for (int index = 0; index < wanted->request->fd_count; index++)
        if (dup2(wanted->request->fds[index], index) < 0)
            return child_fails(AT_SYSTEM);
    if (become_user(wanted) != 0)
        return -1;
    /* After the user has changed, which takes it back. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (chdir(wanted->cwd) != 0)
        return child_fails(AT_CWD);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return execute(wanted);
}

static pid_t __attribute__((noinline)) spawn(const struct wanted *wanted) {
    pid_t child = vfork();
    if (child == 0) {
        become_command(wanted);
        _exit(127);
    }
    return child;
}

/* What the first line of a script asks for, else "". */
static const char *interpreter_of(int folder, const char *path, char *into, size_t room) {
    into[0] = 0;
    int file = openat(folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t size = file >= 0 ? read(file, into, room - 1) : -1;
    if (file >= 0)
        close(file);
    into[size > 0 ? size : 0] = 0;
    if (strncmp(into, "#!", 2) != 0)
        return "";
    char *start = into + 2 + strspn(into + 2, " \t");
    start[strcspn(start, " \t\r\n")] = 0;
    return start;
}

/* Say why a start failed, with what the file that was tried is, as the command would have seen it. */
static void refuse(struct message *request, int socket, const char *cwd, uint32_t stage, int error) {
    static struct answer answer;
    char line[512];
    struct stat state;
    bool names_program = stage == AT_EXEC || stage == AT_EXECUTABLE;
    int folder = open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int seen = names_program && fstatat(folder, tried, &state, 0) != 0 ? errno : 0;
    answer_begin(&answer, REFUSED, request->id);
    put_u32(&answer, stage);
    put_u32(&answer, (uint32_t)error);
    put_u32(&answer, (uint32_t)seen);
    put_u32(&answer, names_program && seen == 0 && S_ISDIR(state.st_mode));
    put_text(&answer, names_program ? tried : "");
    put_text(&answer, names_program && seen == 0 && S_ISREG(state.st_mode) ? interpreter_of(folder, tried, line, sizeof line) : "");
    answer_send(&answer, socket);
    if (folder >= 0)
        close(folder);
}

/* Texts of the request as a list that NULL ends, or NULL if there are not so many. */
static char **take_list(struct message *request, uint32_t count) {
    /* Each text has one byte at least, so a count beyond that is nonsense, and no reason to ask for memory. */
    char **list = count <= request->size ? calloc((size_t)count + 1, sizeof *list) : NULL;
    for (uint32_t index = 0; list != NULL && index < count && !request->bad; index++)
        list[index] = take_text(request);
    request->bad |= list == NULL;
    return list;
}

static void start(struct wanted *wanted, int socket) {
    if (wanted->words[0] == NULL || wanted->words[0][0] == 0) {
        refuse(wanted->request, socket, wanted->cwd, AT_SEARCH, ENOENT);
        return;
    }
    if (!look_up_user(wanted)) {
        refuse(wanted->request, socket, wanted->cwd, AT_USER, 0);
        return;
    }
    kills_before = oom_kills();
    failure.stage = 0;
    pid_t child = spawn(wanted);
    if (child > 0 && failure.stage != 0)
        waitpid(child, NULL, 0);
    if (child < 0 || failure.stage != 0) {
        refuse(wanted->request, socket, wanted->cwd, child < 0 ? AT_SYSTEM : failure.stage, child < 0 ? errno : failure.error);
        return;
    }
    command = child;
    running = wanted->request->id;
    main_ended = false;
    memset(&result, 0, sizeof result);
    static struct answer answer;
    answer_begin(&answer, STARTED, running);
    put_u32(&answer, (uint32_t)child);
    answer_send(&answer, socket);
}

void command_start(struct message *request, int socket) {
    static struct answer answer;
    if (command != 0) {
        refuse(request, socket, "/", AT_BUSY, EBUSY);
        return;
    }
    struct wanted wanted = {.request = request, .mask = take_u32(request)};
    uint32_t words = take_u32(request), variables = take_u32(request);
    wanted.cwd = take_text(request);
    wanted.user = take_text(request);
    wanted.words = take_list(request, words);
    wanted.environment = take_list(request, variables);
    if (!request->bad && request->fd_count >= 3)
        start(&wanted, socket);
    else {
        answer_begin(&answer, ERROR, request->id);
        put_text(&answer, request->bad ? "a start is cut off, or its counts are wrong" : "a start needs three descriptors");
        answer_send(&answer, socket);
    }
    free(wanted.words);
    free(wanted.environment);
}

/* ---- ending ---------------------------------------------------------------------------------------------------- */

static void note(pid_t process, int status, const struct rusage *usage) {
    result.user_us += (uint64_t)usage->ru_utime.tv_sec * 1000000 + (uint64_t)usage->ru_utime.tv_usec;
    result.system_us += (uint64_t)usage->ru_stime.tv_sec * 1000000 + (uint64_t)usage->ru_stime.tv_usec;
    if ((uint64_t)usage->ru_maxrss > result.resident_kib_max)
        result.resident_kib_max = (uint64_t)usage->ru_maxrss;
    if (process == command) {
        main_ended = true;
        result.code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    }
}

/* Reap what has ended; with `wait`, one at least. False if there are no children. */
static bool reap(bool wait) {
    struct rusage usage;
    int status;
    pid_t process;
    while ((process = wait4(-1, &status, wait ? 0 : WNOHANG, &usage)) > 0) {
        note(process, status, &usage);
        wait = false;
    }
    return process == 0 || errno != ECHILD;
}

/* Until no child is left, or none can be killed (one that runs as another user may not be). */
static void sweep(void) {
    for (int round = 0; round < SWEEPS_MAX && reap(false); round++) {
        bool killed = kill_children();
        /* What makes children faster than they are found is ended at one blow, with whoever looks into the container. */
        if (round >= KIND_SWEEPS && getpid() == 1)
            killed |= kill(-1, SIGKILL) == 0;
        if (!killed)
            return;
        reap(true);
    }
}

bool command_reap(struct ended *ended) {
    reap(false);
    if (command == 0 || !main_ended)
        return false;
    sweep();
    if (result.code != 0)
        result.oom_kills = oom_kills() - kills_before;
    *ended = result;
    command = 0;
    return true;
}

void command_kill(void) {
    if (command == 0 || main_ended)
        return;
    kill(-command, SIGKILL);
    kill(command, SIGKILL);
}

void command_forget(void) {
    command_kill();
    sweep();
    command = 0;
}
