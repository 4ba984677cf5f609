"""The time slice that the scheduler gives this thread. Imports nothing of ours."""

cdef extern from *:
    """
    #if defined(__linux__)
    #include <stdint.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    /* struct sched_attr of the kernel's sched_setattr(2), first version; glibc has no name for it everywhere */
    typedef struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } lr_sched;

    static int64_t lr_lengthen(int percent) {
    #if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
        lr_sched now = {0};
        if (syscall(SYS_sched_getattr, 0, &now, (unsigned)sizeof now, 0u) || now.policy != 0 || now.runtime == 0)
            return 0;
        now.size = sizeof now;
        now.runtime += now.runtime * (uint64_t)percent / 100;
        if (syscall(SYS_sched_setattr, 0, &now, 0u))
            return 0;
        return (int64_t)now.runtime;
    #else
        return 0;
    #endif
    }
    #else
    static long long lr_lengthen(int percent) { return 0; }
    #endif
    """
    long long lr_lengthen(int percent)


def lengthen(int percent):
    """Make this thread's slice longer by `percent`; the nanoseconds it has now, 0 where nothing was changed.

    Why: Linux (EEVDF, since 6.6) lets a thread that was woken go ahead of the one that runs only where its slice is the
    shorter one (sched/features.h PREEMPT_SHORT, 6.12). Threads of one terminal session have equal slices, so a client
    that shares the relay's core would be given its bytes only when the relay goes to sleep, a microsecond or two after
    the send. A slice longer by a tenth lets it go first; what the relay gets of a busy core is the same.

    Kernels before 6.12 tell no slice (0) and are left alone, as is a thread that somebody gave another policy.
    """
    return lr_lengthen(percent)
