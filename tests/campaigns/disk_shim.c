// Lets the calls that change the files under one folder fail, or kills the process at one of them; loaded by LD_PRELOAD.
//
// A process arms the library for itself. Nothing happens to files elsewhere, to pipes and to terminals.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

// Kinds of calls, as bits of a mask.
enum { WRITE = 1, FLUSH = 2, RENAME = 4, OPEN = 8, FOLDER = 16, REMOVE = 32 };
enum { COUNT = 0, FAIL_ONCE = 1, FAIL_ON = 2, KILL_BEFORE = 3, KILL_AFTER = 4 };

static char root[PATH_MAX];
static size_t root_length;  // 0: not armed
static int mode, kinds, error;
static long at;
static atomic_long counted, failed;

void vis4mer_shim_arm(const char* folder, int mode_, int kinds_, long at_, int error_) {
  snprintf(root, sizeof root, "%s", folder);
  mode = mode_;
  kinds = kinds_;
  at = at_;
  error = error_;
  counted = 0;
  failed = 0;
  root_length = strlen(root);
}

// The number of calls so far, and of those that failed.
long vis4mer_shim_counted(void) { return counted; }
long vis4mer_shim_failed(void) { return failed; }

static bool inside(const char* path) {
  return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static bool fd_inside(int fd) {
  if (!root_length) return false;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return false;
  path[length] = 0;
  return inside(path);
}

static bool path_inside(int folder, const char* path) {
  if (!root_length || !path) return false;
  if (path[0] == '/') return inside(path);
  if (folder != AT_FDCWD) return fd_inside(folder);
  char current[PATH_MAX];
  return getcwd(current, sizeof current) && inside(current);
}

// Counts a call; returns whether it must fail, and kills the process if this is the call to be killed at. `after` is
// set if the process is to be killed once the call is done.
static bool fails(int kind, bool is_inside, bool* after) {
  *after = false;
  if (!is_inside || !(kinds & kind)) return false;
  long number = ++counted;
  if (mode == KILL_BEFORE && number == at) kill(getpid(), SIGKILL);
  *after = mode == KILL_AFTER && number == at;
  if ((mode == FAIL_ONCE && number == at) || (mode == FAIL_ON && number >= at)) {
    ++failed;
    errno = error;
    return true;
  }
  return false;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define GUARDED(type, name, kind, is_inside, ...)              \
  bool after;                                                  \
  if (fails(kind, is_inside, &after)) return -1;               \
  type result = NEXT(name)(__VA_ARGS__);                       \
  if (after) kill(getpid(), SIGKILL);                          \
  return result;

// A disk that runs full takes the beginning of a write first.
#define WRITTEN(name, fd, data, size, ...)                                                          \
  bool after, inside_ = fd_inside(fd);                                                              \
  if (fails(WRITE, inside_, &after)) {                                                              \
    if (error == ENOSPC && failed == 1 && (size) > 1) return NEXT(name)(fd, data, (size) / 2 __VA_ARGS__); \
    return -1;                                                                                      \
  }                                                                                                 \
  ssize_t result = NEXT(name)(fd, data, size __VA_ARGS__);                                          \
  if (after) kill(getpid(), SIGKILL);                                                               \
  return result;

ssize_t write(int fd, const void* data, size_t size) { WRITTEN(write, fd, data, size, ) }
ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) { WRITTEN(pwrite, fd, data, size, , offset) }
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) { WRITTEN(pwrite64, fd, data, size, , offset) }
ssize_t writev(int fd, const struct iovec* parts, int count) {
  GUARDED(ssize_t, writev, WRITE, fd_inside(fd), fd, parts, count)
}
ssize_t sendfile(int to, int from, off_t* offset, size_t size) {
  GUARDED(ssize_t, sendfile, WRITE, fd_inside(to), to, from, offset, size)
}
ssize_t sendfile64(int to, int from, off64_t* offset, size_t size) {
  GUARDED(ssize_t, sendfile64, WRITE, fd_inside(to), to, from, offset, size)
}
ssize_t copy_file_range(int from, off64_t* start, int to, off64_t* offset, size_t size, unsigned flags) {
  GUARDED(ssize_t, copy_file_range, WRITE, fd_inside(to), from, start, to, offset, size, flags)
}
int ftruncate(int fd, off_t size) { GUARDED(int, ftruncate, WRITE, fd_inside(fd), fd, size) }
int ftruncate64(int fd, off64_t size) { GUARDED(int, ftruncate64, WRITE, fd_inside(fd), fd, size) }

int fsync(int fd) { GUARDED(int, fsync, FLUSH, fd_inside(fd), fd) }
int fdatasync(int fd) { GUARDED(int, fdatasync, FLUSH, fd_inside(fd), fd) }

int rename(const char* from, const char* to) { GUARDED(int, rename, RENAME, path_inside(AT_FDCWD, to), from, to) }
int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  GUARDED(int, renameat, RENAME, path_inside(to_folder, to), from_folder, from, to_folder, to)
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  GUARDED(int, renameat2, RENAME, path_inside(to_folder, to), from_folder, from, to_folder, to, flags)
}

int mkdir(const char* path, mode_t mode_) { GUARDED(int, mkdir, FOLDER, path_inside(AT_FDCWD, path), path, mode_) }
int mkdirat(int folder, const char* path, mode_t mode_) {
  GUARDED(int, mkdirat, FOLDER, path_inside(folder, path), folder, path, mode_)
}

int unlink(const char* path) { GUARDED(int, unlink, REMOVE, path_inside(AT_FDCWD, path), path) }
int unlinkat(int folder, const char* path, int flags) {
  GUARDED(int, unlinkat, REMOVE, path_inside(folder, path), folder, path, flags)
}
int rmdir(const char* path) { GUARDED(int, rmdir, REMOVE, path_inside(AT_FDCWD, path), path) }

#define WRITES(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & (O_CREAT | O_TRUNC)))
#define OPENED(name, is_inside, flags, ...)                                 \
  mode_t mode_ = 0;                                                         \
  if ((flags) & (O_CREAT | __O_TMPFILE)) {                                  \
    va_list rest;                                                           \
    va_start(rest, flags);                                                  \
    mode_ = va_arg(rest, mode_t);                                           \
    va_end(rest);                                                           \
  }                                                                         \
  GUARDED(int, name, OPEN, root_length && WRITES(flags) && (is_inside), __VA_ARGS__, flags, mode_)

int open(const char* path, int flags, ...) { OPENED(open, path_inside(AT_FDCWD, path), flags, path) }
int open64(const char* path, int flags, ...) { OPENED(open64, path_inside(AT_FDCWD, path), flags, path) }
int openat(int folder, const char* path, int flags, ...) {
  OPENED(openat, path_inside(folder, path), flags, folder, path)
}
int openat64(int folder, const char* path, int flags, ...) {
  OPENED(openat64, path_inside(folder, path), flags, folder, path)
}

#define STREAM(name)                                                                                         \
  bool after;                                                                                                \
  if (fails(OPEN, root_length && strpbrk(how, "wa+") && path_inside(AT_FDCWD, path), &after)) return NULL;   \
  FILE* result = NEXT(name)(path, how);                                                                      \
  if (after) kill(getpid(), SIGKILL);                                                                        \
  return result;

FILE* fopen(const char* path, const char* how) { STREAM(fopen) }
FILE* fopen64(const char* path, const char* how) { STREAM(fopen64) }
