/* What the kernel says in /proc and /sys: memory, kills, children. Where they are not there, nothing is known. */

#define _GNU_SOURCE
#include "runner.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The start of a small file, ended by NUL; its length, or -1. */
static ssize_t read_start(const char *path, char *into, size_t room) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t size = read(file, into, room - 1);
    close(file);
    into[size > 0 ? size : 0] = 0;
    return size;
}

/* The process id that a name in /proc stands for, or 0. */
static pid_t process_of(const struct dirent *entry) {
    char *end;
    long number = strtol(entry->d_name, &end, 10);
    return *end == 0 && number > 0 ? (pid_t)number : 0;
}

/* The own process id as /proc has it: another than getpid() where /proc belongs to another namespace. */
static pid_t own_process(void) {
    char text[32];
    ssize_t size = readlink("/proc/self", text, sizeof text - 1);
    if (size <= 0)
        return 0;
    text[size] = 0;
    return (pid_t)strtol(text, NULL, 10);
}

static pid_t parent_of(pid_t process) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
    if (read_start(path, text, sizeof text) <= 0)
        return 0;
    /* After the name in parentheses, which may hold anything: a letter for the state, then the parent. */
    char *end = strrchr(text, ')');
    return end != NULL && strlen(end) > 4 ? (pid_t)strtol(end + 4, NULL, 10) : 0;
}

static uint64_t resident_bytes(pid_t process) {
    char path[64], text[128];
    unsigned long long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)process);
    if (read_start(path, text, sizeof text) <= 0 || sscanf(text, "%*u %llu", &pages) != 1)
        return 0;
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Memory with shared pages divided among those that share them. */
static uint64_t proportional_bytes(pid_t process) {
    char path[64], text[1024];
    unsigned long long kib;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)process);
    if (read_start(path, text, sizeof text) <= 0)
        return resident_bytes(process);
    char *line = strstr(text, "\nPss:");
    return line != NULL && sscanf(line, "\nPss: %llu", &kib) == 1 ? (uint64_t)kib << 10 : resident_bytes(process);
}

/* Whether a command started it. Where this is process 1, all others count, with whoever looks into the container. */
static bool descends(pid_t process, pid_t own) {
    while (own != 1 && process > 1 && process != own)
        process = parent_of(process);
    return own == 1 || process == own;
}

static uint64_t sum_memory(uint64_t (*one)(pid_t), int *count) {
    DIR *folder = opendir("/proc");
    uint64_t total = 0;
    pid_t own = own_process();
    *count = 0;
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        pid_t process = process_of(entry);
        if (process == 0 || process == own || !descends(process, own))
            continue;
        total += one(process);
        ++*count;
    }
    if (folder != NULL)
        closedir(folder);
    return total;
}

uint64_t memory_of_all(uint64_t enough) {
    int count;
    uint64_t plain = sum_memory(resident_bytes, &count);
    return plain <= enough || count < 2 ? plain : sum_memory(proportional_bytes, &count);
}

uint64_t memory_limit(void) {
    static const char *const places[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    char text[64];
    for (size_t index = 0; index < sizeof places / sizeof *places; index++)
        if (read_start(places[index], text, sizeof text) > 0) {
            unsigned long long limit = strtoull(text, NULL, 10);
            return limit < (1ull << 60) ? limit : 0; /* "max" is 0; the older kind says none by a huge number */
        }
    return 0;
}

uint32_t oom_kills(void) {
    static const char *const places[] = {"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"};
    static int file = -2;
    char text[512];
    for (size_t index = 0; file == -2 && index < sizeof places / sizeof *places; index++) {
        int found = open(places[index], O_RDONLY | O_CLOEXEC);
        if (found >= 0)
            file = found;
    }
    if (file < 0) {
        file = -1;
        return 0;
    }
    ssize_t size = pread(file, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = 0;
    char *line = strstr(text, "oom_kill ");
    return line != NULL ? (uint32_t)strtoul(line + strlen("oom_kill "), NULL, 10) : 0;
}

bool kill_children(void) {
    DIR *folder = opendir("/proc");
    pid_t own = own_process();
    bool killed = false;
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        pid_t process = process_of(entry);
        if (process != 0 && parent_of(process) == own && kill(process, SIGKILL) == 0)
            killed = true;
    }
    if (folder != NULL)
        closedir(folder);
    return killed;
}
