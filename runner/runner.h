/* What the parts of the runner say to each other. The protocol: docs/reference/runner-protocol.md; why: docs/design/035-runner.md */

#ifndef PADDOCK_RUNNER_H
#define PADDOCK_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the protocol is little-endian, and so must be the machine"
#endif

enum { PROTOCOL_VERSION = 1, FDS_MAX = 5, PATH_BYTES = 4096, INLINE_BYTES_MAX = 64 << 10, BODY_BYTES_MAX = 16 << 20 };

/* Types of messages; see the protocol. */
enum { RESET = 1, START, SIGNAL, END, SETTLE, MEMORY };
enum { ERROR = 100, READY, STARTED, REFUSED, EXITED, SETTLED, MEASURED };
#define IN_FILE 0x80000000u

/* Folders where commands write: `out` in the folder of inputs, `scratch` in the other. */
enum { OUT = 0, SCRATCH = 1 };

/* Where a start failed. */
enum { AT_CWD = 1, AT_USER, AT_SEARCH, AT_EXECUTABLE, AT_EXEC, AT_BUSY, AT_SYSTEM };

/* A received message. Strings are taken from `body` one after another; `bad` tells that it was too short. */
struct message {
    uint32_t type, id;
    char *body;
    size_t size, at;
    bool bad;
    int fds[FDS_MAX];
    int fd_count;
    void *mapped; /* a body that came in a file */
    size_t mapped_bytes;
};

/* protocol.c */
int receive(int socket, struct message *message); /* 1: a message; 0: the end; -1: nonsense, which `explain` names */
void release(struct message *message);            /* closes the descriptors that are left in it */
uint32_t take_u32(struct message *message);
uint64_t take_u64(struct message *message);
char *take_text(struct message *message);
extern const char *explain;

struct answer {
    char *bytes;
    size_t size, room;
};
void answer_begin(struct answer *answer, uint32_t type, uint32_t id);
void put_u32(struct answer *answer, uint32_t value);
void put_u64(struct answer *answer, uint64_t value);
void put_text(struct answer *answer, const char *text);
void answer_send(struct answer *answer, int socket);

/* command.c: at most one command, with all that it starts */
struct ended {
    int32_t code; /* 0..255, or -N where signal N ended it */
    uint64_t user_us, system_us, resident_kib_max;
    uint32_t oom_kills;
};
extern pid_t command;   /* its process, or 0 */
extern uint32_t running; /* the id of its START; meaningless without a command */
void command_start(struct message *request, int socket);
bool command_reap(struct ended *ended); /* true: it has ended, and nothing that it started lives any more */
void command_kill(void);                /* asks the kernel to end it and all that it started; command_reap tells of it */
void command_forget(void);              /* ends it, waits, says nothing */

/* folder.c */
bool settle_in(const char *pfs, const char *shared); /* the folders, from now on; false if they are not absolute */
int settle(int which, char *failed); /* 0, or an errno; `failed`: PATH_BYTES for the path */

/* system.c: what /proc and /sys say */
uint64_t memory_of_all(uint64_t enough);
uint64_t memory_limit(void); /* of the container; 0: none that can be seen */
uint32_t oom_kills(void);    /* so far, in the container; 0 where that can't be seen */
bool kill_children(void);    /* SIGKILL to the direct children of this process; whether one took it */

#endif
