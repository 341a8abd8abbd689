/* Makes the processor look as if it had fewer vector instructions, to the process that this library is preloaded into.
 *
 * Linux can make the instruction CPUID fault (arch_prctl(2), ARCH_SET_CPUID). The fault's handler asks the processor,
 * and leaves out of the answer what the cap forbids. Threads and forked processes inherit it; a new program gets it with
 * LD_PRELOAD. Bits: Intel, "Architecture Instruction Set Extensions Programming Reference", CPUID leaf 7.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { SET_CPUID = 0x1012 };

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
static const unsigned AVX512_EBX = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;

static int hides, keeps_avx512, keeps_avx512_vnni, keeps_avx_vnni;
static struct sigaction program_handler; /* what the program itself wants to do when it faults */
static int (*set_handler)(int, const struct sigaction *, struct sigaction *);

static void allow_cpuid(long allowed) { syscall(SYS_arch_prctl, SET_CPUID, allowed); }

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

static void handle_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    /* SI_KERNEL: the instruction itself was refused, so its bytes can be read. */
    if (info->si_code == SI_KERNEL && instruction[0] == 0x0f && instruction[1] == 0xa2) {
        answer_cpuid(registers);
    } else if (program_handler.sa_flags & SA_SIGINFO) {
        program_handler.sa_sigaction(number, info, context);
    } else if (program_handler.sa_handler != SIG_DFL && program_handler.sa_handler != SIG_IGN) {
        program_handler.sa_handler(number);
    } else {
        signal(number, SIG_DFL); /* the same instruction faults again, and ends the process */
    }
}

/* A program that handles faults itself gets all but ours; where nothing is hidden, it gets all. */
int sigaction(int number, const struct sigaction *wanted, struct sigaction *before) {
    if (!set_handler) set_handler = dlsym(RTLD_NEXT, "sigaction");
    if (!hides || number != SIGSEGV) return set_handler(number, wanted, before);
    struct sigaction last = program_handler;
    if (wanted) program_handler = *wanted;
    if (before) *before = last;
    return 0;
}

__attribute__((constructor)) static void cap(void) {
    const char *set = getenv("CUTRAY_CPU_CAP");
    if (!set) return;
    hides = 1;
    keeps_avx512_vnni = strcmp(set, "AVX512_CORE_VNNI") == 0;
    keeps_avx512 = keeps_avx512_vnni || strcmp(set, "AVX512_CORE") == 0;
    keeps_avx_vnni = strcmp(set, "AVX2_VNNI") == 0;
    if (!set_handler) set_handler = dlsym(RTLD_NEXT, "sigaction");
    /* Threads may have a stack of their own for signals. The handler itself may fault. */
    struct sigaction ours = {.sa_sigaction = handle_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    set_handler(SIGSEGV, &ours, NULL);
    allow_cpuid(0);
}
