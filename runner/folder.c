/* Open up what a command has left in a folder: the worker, which is another user, has to read it and to remove it. */

#define _GNU_SOURCE
#include "runner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MODE = 0444, FOLDER_MODE = 0777 };

/* A directory on the way down. Only the lowest one is open, so depth costs memory, and no descriptors. */
struct level {
    struct level *above;
    char *names; /* of directories in it that are still to be entered, each ended by NUL, all by an empty one */
    char *next;
    dev_t device;
    ino_t node;
};

/* Change the mode of what an O_PATH descriptor stands for, whatever has come to have its name since. */
static int change_mode(int descriptor, mode_t mode) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    return chmod(path, mode);
}

/* Give `name` in `folder` the modes that it lacks. 0, or -1 with errno. */
static int open_up(int folder, const char *name, const struct stat *seen) {
    mode_t mode = seen->st_mode & 0777;
    mode_t wanted = S_ISDIR(seen->st_mode) ? FOLDER_MODE : mode | FILE_MODE;
    if (mode == wanted && !(S_ISDIR(seen->st_mode) && seen->st_mode & S_ISVTX))
        return 0;
    int descriptor = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    int code = change_mode(descriptor, wanted);
    close(descriptor);
    return code;
}

static int enter(int folder, const char *name) {
    return openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Open up what is in `folder`, and list its directories in `level`. */
static int look_through(int folder, struct level *level) {
    int listed = dup(folder);
    DIR *entries = listed >= 0 ? fdopendir(listed) : NULL;
    size_t size = 0, room = 0;
    int code = entries != NULL ? 0 : -1;
    struct dirent *entry;
    while (code == 0 && (errno = 0, entry = readdir(entries)) != NULL) {
        struct stat state;
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(folder, name, &state, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        /* Never into what else is mounted there. */
        if ((!S_ISDIR(state.st_mode) && !S_ISREG(state.st_mode)) || state.st_dev != level->device)
            continue;
        code = open_up(folder, name, &state);
        if (code != 0 || !S_ISDIR(state.st_mode))
            continue;
        size_t length = strlen(name) + 1;
        if (room - size < length + 1) {
            room = room * 2 + length + 256;
            char *larger = realloc(level->names, room);
            if (larger == NULL)
                _exit(1);
            level->names = larger;
        }
        memcpy(level->names + size, name, length);
        size += length;
        level->names[size] = 0;
    }
    level->next = level->names;
    int error = errno;
    if (entries != NULL)
        closedir(entries);
    else if (listed >= 0)
        close(listed);
    errno = error;
    return code == 0 && error != 0 ? -1 : code;
}

static struct level *push(int folder, struct level *above) {
    struct level *level = calloc(1, sizeof *level);
    struct stat state;
    if (level == NULL)
        _exit(1);
    if (fstat(folder, &state) == 0) {
        level->device = state.st_dev;
        level->node = state.st_ino;
    }
    level->above = above;
    return level;
}

static struct level *pop(struct level *level) {
    struct level *above = level->above;
    free(level->names);
    free(level);
    return above;
}

/* Replace `*folder` by `name` in it. */
static int step(int *folder, const char *name) {
    int inner = enter(*folder, name);
    if (inner < 0)
        return -1;
    close(*folder);
    *folder = inner;
    return 0;
}

/* Back to the directory of `level`; fails if somebody has moved what was walked through. */
static int step_up(int *folder, const struct level *level) {
    struct stat state;
    if (step(folder, "..") != 0 || fstat(*folder, &state) != 0)
        return -1;
    errno = ELOOP;
    return state.st_dev == level->device && state.st_ino == level->node ? 0 : -1;
}

/* Only these two are ever opened up, by names of our own, so that no mistake of a worker can open up more. */
static char folders[2][PATH_BYTES];

bool settle_in(const char *pfs, const char *shared) {
    int out = snprintf(folders[OUT], PATH_BYTES, "%s/out", pfs);
    int scratch = snprintf(folders[SCRATCH], PATH_BYTES, "%s/scratch", shared);
    return pfs[0] == '/' && shared[0] == '/' && out < PATH_BYTES && scratch < PATH_BYTES;
}

int settle(int which, char *failed) {
    struct stat state;
    const char *path = folders[which == OUT ? OUT : SCRATCH];
    snprintf(failed, PATH_BYTES, "%s", path);
    if (lstat(path, &state) != 0 || !S_ISDIR(state.st_mode))
        return ENOTDIR;
    /* The folder itself may be the worker's, which then can do with it what it wants. */
    if ((state.st_mode & 0777) != FOLDER_MODE)
        open_up(AT_FDCWD, path, &state);
    int folder = enter(AT_FDCWD, path);
    if (folder < 0)
        return errno;
    struct level *level = push(folder, NULL);
    int code = look_through(folder, level);
    while (code == 0 && level != NULL) {
        if (level->next != NULL && *level->next != 0) {
            const char *name = level->next;
            level->next += strlen(name) + 1;
            snprintf(failed, PATH_BYTES, "%s", name);
            code = step(&folder, name);
            if (code == 0) {
                level = push(folder, level);
                code = look_through(folder, level);
            }
            continue;
        }
        level = pop(level);
        if (level != NULL)
            code = step_up(&folder, level);
    }
    int error = code == 0 ? 0 : errno;
    while (level != NULL)
        level = pop(level);
    close(folder);
    return error;
}
