/* Preloaded, notes every attempt of a process to leave this machine, and lets it fail.

   To those who ask, it looks as if the network were there: names have an address (of a network that is
   reserved for documentation), so nothing stays silent only because the tests run offline. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *where) {
    const char *log = getenv("ENGINERY_TEST_CONNECTIONS");
    if (!log) return;
    char command[400] = {0}, line[700];
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t size = file < 0 ? 0 : read(file, command, sizeof command - 1);
    if (file >= 0) close(file);
    for (ssize_t i = 0; i + 1 < size; i++)
        if (!command[i]) command[i] = ' ';
    int length = snprintf(line, sizeof line, "%s: %s %s\n", command, what, where);
    file = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file < 0 || write(file, line, length < (int)sizeof line ? length : (int)sizeof line) < 0) abort();
    close(file);
}

static int leaves(const struct sockaddr *address) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (!address) return 0;
    if (address->sa_family == AF_INET) {
        const struct in_addr *ip = &((const struct sockaddr_in *)address)->sin_addr;
        if ((ntohl(ip->s_addr) >> 24) == 127 || !ip->s_addr) return 0;
        inet_ntop(AF_INET, ip, text, sizeof text);
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *ip = &((const struct sockaddr_in6 *)address)->sin6_addr;
        if (IN6_IS_ADDR_LOOPBACK(ip) || IN6_IS_ADDR_UNSPECIFIED(ip)) return 0;
        inet_ntop(AF_INET6, ip, text, sizeof text);
    } else {
        return 0;
    }
    note("sends to", text);
    errno = ECONNREFUSED;
    return 1;
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return leaves(address) ? -1 : real(socket, address, length);
}

ssize_t sendto(int socket, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    return leaves(address) ? -1 : real(socket, data, size, flags, address, length);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    char own[256] = "";
    unsigned char ip[16];
    gethostname(own, sizeof own - 1);
    if (!node || !strcmp(node, "localhost") || !strcmp(node, own) || inet_pton(AF_INET, node, ip) == 1 || inet_pton(AF_INET6, node, ip) == 1)
        return real(node, service, hints, result);
    note("asks where it finds", node);
    return real("192.0.2.1", service, hints, result);
}
