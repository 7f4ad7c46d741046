/* Messages: a datagram each, with descriptors beside it; a large body comes in a file. */

#define _GNU_SOURCE
#include "runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 8 };

const char *explain = "";

static char buffer[HEADER_BYTES + INLINE_BYTES_MAX];

static int nonsense(struct message *message, const char *why) {
    explain = why;
    release(message);
    return -1;
}

/* The descriptors that came along: as many as fit are kept, and the kernel closes those beyond. */
static void keep_descriptors(struct msghdr *header, struct message *message) {
    for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each != NULL; each = CMSG_NXTHDR(header, each)) {
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS)
            continue;
        int count = (int)((each->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int index = 0; index < count; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(each) + index * sizeof(int), sizeof descriptor);
            if (message->fd_count < FDS_MAX)
                message->fds[message->fd_count++] = descriptor;
            else
                close(descriptor);
        }
    }
}

/* The body is in the last descriptor: a sealed or private file, mapped so that nothing is read in parts. */
static int map_body(struct message *message) {
    if (message->fd_count == 0)
        return nonsense(message, "a body in a file came without the file");
    int file = message->fds[--message->fd_count];
    struct stat state;
    void *place = MAP_FAILED;
    if (fstat(file, &state) == 0 && S_ISREG(state.st_mode) && state.st_size > 0 && state.st_size <= BODY_BYTES_MAX)
        place = mmap(NULL, (size_t)state.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, file, 0);
    close(file);
    if (place == MAP_FAILED)
        return nonsense(message, "the file of a body is empty, too large, or no file");
    message->mapped = place;
    message->mapped_bytes = message->size = (size_t)state.st_size;
    message->body = place;
    return 1;
}

int receive(int socket, struct message *message) {
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * (FDS_MAX + 1))];
    } control;
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    memset(message, 0, sizeof *message);
    ssize_t size;
    do
        size = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size <= 0)
        return 0;
    keep_descriptors(&header, message);
    if (size < HEADER_BYTES)
        return nonsense(message, "a message is shorter than its header");
    memcpy(&message->type, buffer, 4);
    memcpy(&message->id, buffer + 4, 4);
    if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return nonsense(message, "a message is too long, or has too many descriptors");
    message->body = buffer + HEADER_BYTES;
    message->size = (size_t)size - HEADER_BYTES;
    if (!(message->type & IN_FILE))
        return 1;
    message->type &= ~IN_FILE;
    return map_body(message);
}

void release(struct message *message) {
    while (message->fd_count > 0)
        close(message->fds[--message->fd_count]);
    if (message->mapped != NULL)
        munmap(message->mapped, message->mapped_bytes);
    message->mapped = NULL;
}

static bool has(struct message *message, size_t bytes) {
    if (message->size - message->at < bytes)
        message->bad = true;
    return !message->bad;
}

uint32_t take_u32(struct message *message) {
    uint32_t value = 0;
    if (has(message, sizeof value)) {
        memcpy(&value, message->body + message->at, sizeof value);
        message->at += sizeof value;
    }
    return value;
}

uint64_t take_u64(struct message *message) {
    uint64_t low = take_u32(message);
    return low | (uint64_t)take_u32(message) << 32;
}

char *take_text(struct message *message) {
    static char nothing[1];
    char *text = message->body + message->at;
    char *end = has(message, 1) ? memchr(text, 0, message->size - message->at) : NULL;
    if (end == NULL) {
        message->bad = true;
        nothing[0] = 0;
        return nothing;
    }
    message->at = (size_t)(end - message->body) + 1;
    return text;
}

static void put(struct answer *answer, const void *bytes, size_t count) {
    if (answer->room - answer->size < count) {
        size_t room = answer->room * 2 + count + 512;
        char *larger = realloc(answer->bytes, room);
        if (larger == NULL)
            _exit(1); /* Without memory for an answer there is nothing left to say; the worker sees the end. */
        answer->bytes = larger;
        answer->room = room;
    }
    memcpy(answer->bytes + answer->size, bytes, count);
    answer->size += count;
}

void answer_begin(struct answer *answer, uint32_t type, uint32_t id) {
    answer->size = 0;
    put_u32(answer, type);
    put_u32(answer, id);
}

void put_u32(struct answer *answer, uint32_t value) {
    put(answer, &value, sizeof value);
}

void put_u64(struct answer *answer, uint64_t value) {
    put(answer, &value, sizeof value);
}

void put_text(struct answer *answer, const char *text) {
    put(answer, text, strlen(text) + 1);
}

/* Send the body of an answer in a file; false if the system gives none. */
static bool send_in_file(struct answer *answer, int socket) {
    int file = memfd_create("answer", MFD_CLOEXEC);
    size_t done = HEADER_BYTES;
    while (file >= 0 && done < answer->size) {
        ssize_t count = write(file, answer->bytes + done, answer->size - done);
        if (count <= 0)
            break;
        done += (size_t)count;
    }
    if (file < 0 || done < answer->size)
        return false;
    uint32_t type;
    memcpy(&type, answer->bytes, sizeof type);
    type |= IN_FILE;
    memcpy(answer->bytes, &type, sizeof type);
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.align = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.align), &file, sizeof file);
    struct iovec part = {answer->bytes, HEADER_BYTES};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    bool sent = sendmsg(socket, &header, MSG_NOSIGNAL) == HEADER_BYTES;
    close(file);
    return sent;
}

void answer_send(struct answer *answer, int socket) {
    /* An answer that can't be sent has nobody who waits for it: the end of the connection is seen next. */
    if (answer->size > HEADER_BYTES + INLINE_BYTES_MAX)
        send_in_file(answer, socket);
    else
        while (send(socket, answer->bytes, answer->size, MSG_NOSIGNAL) < 0 && errno == EINTR)
            continue;
}
