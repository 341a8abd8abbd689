/* Makes the processor look as if it had fewer vector instructions, to the process that this library is preloaded into.
 *
 * A program's instructions CPUID are made to fail. The handler of the failure asks the processor, and leaves out of the
 * answer what the cap forbids. There are two ways:
 *
 * - Linux lets CPUID fault where the processor can (arch_prctl(2), ARCH_SET_CPUID).
 * - Elsewhere CPUID is written over in each library, before any of its code runs, with two bytes that are no
 *   instruction. The dynamic linker tells of each library that it has mapped (rtld-audit(7), la_objopen); a program
 *   named by CUTRAY_CPUID_FINDER finds the instructions in it.
 *
 * Threads and forked processes inherit it. A new program gets it with LD_PRELOAD, whose functions stand in for the C
 * library's, and for the second way also with LD_AUDIT, whose libraries begin before all others: the file is loaded
 * twice then. In the first way, libraries that the program itself is linked with may ask the processor before it begins.
 * Bits: Intel, "Architecture Instruction Set Extensions Programming Reference", CPUID leaf 7.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { SET_CPUID = 0x1012 };

static const unsigned char CPUID[2] = {0x0f, 0xa2};
static const unsigned char REPLACED[2] = {0x06, 0xa2}; /* 0x06 is no instruction in 64-bit mode */

/* Of leaf 7: what came after VNNI, VNNI with AVX-512 and without, and AVX-512 itself. */
enum {
    NEWER_EDX = 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25,                 /* AMX_BF16, AVX512_FP16, AMX_TILE, AMX_INT8 */
    NEWER_1_EAX = 1 << 5 | 1 << 21,                                    /* AVX512_BF16, AMX_FP16 */
    NEWER_1_EDX = 1 << 4 | 1 << 5 | 1 << 8 | 1 << 10 | 1 << 19,        /* AVX_VNNI_INT8, .. AMX_COMPLEX, .. AVX10 */
    AVX512_VNNI_ECX = 1 << 11,
    AVX_VNNI_1_EAX = 1 << 4,
    AVX512_ECX = 1 << 1 | 1 << 6 | 1 << 12 | 1 << 14,                  /* VBMI, VBMI2, BITALG, VPOPCNTDQ */
    AVX512_EDX = 1 << 2 | 1 << 3 | 1 << 8,                             /* 4VNNIW, 4FMAPS, VP2INTERSECT */
};
/* F, DQ, IFMA, PF, ER, CD, BW, VL */
static const unsigned AVX512_EBX =
    1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;

static int hides, faults, keeps_avx512, keeps_avx512_vnni, keeps_avx_vnni;
static struct sigaction program_handler; /* what the program itself wants to do on the signal that is ours */
static int (*set_handler)(int, const struct sigaction *, struct sigaction *);

static int our_signal(void) { return faults ? SIGSEGV : SIGILL; }

static void allow_cpuid(long allowed) {
    if (faults) syscall(SYS_arch_prctl, SET_CPUID, allowed);
}

static void answer_cpuid(greg_t *registers) {
    unsigned leaf = registers[REG_RAX], part = registers[REG_RCX];
    unsigned a = leaf, b, c = part, d;
    allow_cpuid(1);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    allow_cpuid(0);
    if (leaf == 7 && part == 0) {
        b &= ~(keeps_avx512 ? 0 : AVX512_EBX);
        c &= ~(unsigned)((keeps_avx512 ? 0 : AVX512_ECX) | (keeps_avx512_vnni ? 0 : AVX512_VNNI_ECX));
        d &= ~(unsigned)(NEWER_EDX | (keeps_avx512 ? 0 : AVX512_EDX));
    } else if (leaf == 7 && part == 1) {
        a &= ~(unsigned)(NEWER_1_EAX | (keeps_avx_vnni ? 0 : AVX_VNNI_1_EAX));
        d &= ~(unsigned)NEWER_1_EDX;
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

static int is_cpuid(const siginfo_t *info, const void *instruction) {
    if (!faults) return memcmp(instruction, REPLACED, sizeof REPLACED) == 0;
    /* SI_KERNEL: the instruction itself was refused, so its bytes can be read. */
    return info->si_code == SI_KERNEL && memcmp(instruction, CPUID, sizeof CPUID) == 0;
}

static void handle_failure(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (is_cpuid(info, (const void *)registers[REG_RIP])) {
        answer_cpuid(registers);
    } else if (program_handler.sa_flags & SA_SIGINFO) {
        program_handler.sa_sigaction(number, info, context);
    } else if (program_handler.sa_handler != SIG_DFL && program_handler.sa_handler != SIG_IGN) {
        program_handler.sa_handler(number);
    } else if (info->si_code > 0 || program_handler.sa_handler == SIG_DFL) {
        /* The same instruction fails again, and ends the process. */
        set_handler(number, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
        if (info->si_code <= 0) raise(number); /* sent by a program: there is no such instruction */
    }
}

/* A program that handles failures itself gets all but ours; where nothing is hidden, it gets all. */
int sigaction(int number, const struct sigaction *wanted, struct sigaction *before) {
    if (!set_handler) set_handler = dlsym(RTLD_NEXT, "sigaction");
    if (!hides || number != our_signal()) return set_handler(number, wanted, before);
    struct sigaction last = program_handler;
    if (wanted) program_handler = *wanted;
    if (before) *before = last;
    return 0;
}

/* The C library's own would not call the function above. */
sighandler_t signal(int number, sighandler_t handler) {
    struct sigaction before, wanted = {.sa_handler = handler, .sa_flags = SA_RESTART};
    return sigaction(number, &wanted, &before) ? SIG_ERR : before.sa_handler;
}

__attribute__((constructor)) static void cap(void) {
    const char *set = getenv("CUTRAY_CPU_CAP");
    if (!set) return;
    hides = 1;
    keeps_avx512_vnni = strcmp(set, "AVX512_CORE_VNNI") == 0;
    keeps_avx512 = keeps_avx512_vnni || strcmp(set, "AVX512_CORE") == 0;
    keeps_avx_vnni = strcmp(set, "AVX2_VNNI") == 0;
    faults = getenv("CUTRAY_CPUID_FINDER") == NULL;
    if (!set_handler) set_handler = dlsym(RTLD_NEXT, "sigaction");
    /* Threads may have a stack of their own for signals. The handler itself may fault. */
    struct sigaction ours = {.sa_sigaction = handle_failure, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    set_handler(our_signal(), &ours, NULL);
    allow_cpuid(0);
}

static void give_up(const char *library, const char *why) {
    fprintf(stderr, "capped: %s: %s\n", library, why);
    _exit(127); /* a program that seems to be capped and is not would be measured as one that is */
}

/* Returns what the finder knows of a library: a file with the address of one CPUID on each line. */
static FILE *open_addresses(const char *library) {
    struct stat status;
    char path[PATH_MAX];
    if (stat(library, &status)) return NULL; /* the kernel's own library is no file */
    snprintf(path, sizeof path, "%s/%lx-%lx-%lx-%lx", getenv("CUTRAY_CPUID_FOLDER"), (long)status.st_ino,
             (long)status.st_size, (long)status.st_mtim.tv_sec, (long)status.st_mtim.tv_nsec);
    if (access(path, R_OK)) {
        const char *python = getenv("CUTRAY_CPUID_PYTHON");
        char search[PATH_MAX];
        snprintf(search, sizeof search, "PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
        char *command[] = {(char *)python, "-IS", getenv("CUTRAY_CPUID_FINDER"), (char *)library, path, NULL};
        char *environment[] = {search, NULL};
        pid_t finder;
        if (posix_spawn(&finder, python, NULL, NULL, command, environment) == 0) waitpid(finder, NULL, 0);
    }
    FILE *addresses = fopen(path, "r");
    if (!addresses) give_up(library, "its instructions CPUID could not be found");
    return addresses;
}

static void replace_cpuid(unsigned char *instruction) {
    const long page = sysconf(_SC_PAGESIZE);
    unsigned char *start = (unsigned char *)((unsigned long)instruction & -page);
    const size_t size = instruction + sizeof CPUID - start;
    if (memcmp(instruction, CPUID, sizeof CPUID)) return; /* done before */
    if (mprotect(start, size, PROT_READ | PROT_WRITE | PROT_EXEC)) give_up("CPUID", "this system keeps code as it is");
    memcpy(instruction, REPLACED, sizeof REPLACED);
    mprotect(start, size, PROT_READ | PROT_EXEC);
}

unsigned la_version(unsigned version) { return version; }

unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie) {
    Dl_info this;
    dladdr((void *)la_version, &this);
    if (!hides || strcmp(map->l_name, this.dli_fname) == 0) return 0; /* our own handler has to ask the processor */
    char program[PATH_MAX] = "";
    if (!*map->l_name && !realpath("/proc/self/exe", program)) give_up("this program", "its file is gone");
    FILE *addresses = open_addresses(*map->l_name ? map->l_name : program);
    unsigned long address;
    if (!addresses) return 0;
    while (fscanf(addresses, "%lx", &address) == 1) replace_cpuid((unsigned char *)map->l_addr + address);
    fclose(addresses);
    return 0;
}
