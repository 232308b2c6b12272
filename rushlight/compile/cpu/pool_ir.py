"""The native code of the executor and of the thread pool's workers, as LLVM IR text.

Compiled once and kept in the disk cache like any kernel:

* ``i64 rl_execute(ptr instructions, i64 n, ptr table, ptr pool)`` walks the instructions; returns 0, or 1 + the number
  of the instruction that left an error in the error block;
* ``void rl_worker(ptr pool)`` is a worker's life: it returns when the pool is told to stop;
* ``void rl_pool_init(ptr pool)``, ``void rl_pool_stop(ptr pool)`` and ``void rl_spin(i64 n)`` (n pauses);
* ``rl_launch`` and ``rl_await``, for programs that run while Python goes on: :mod:`.queue_ir`.

**How a fork-join works.** One 64-bit word, the *ticket*, holds ``generation << 32 | low << 16 | high``: the chunks
``low .. high-1`` of the present job are unclaimed. The caller claims chunks from the low end, workers from the high
end, each by one compare-and-swap, so with two threads each core sees the same part of the data from instruction to
instruction. Claiming is the only way to touch a job: who comes late finds nothing to claim, and the caller waits for
claimed chunks only, never for a worker that still sleeps. The generation makes a claim fail that was computed for an
earlier job. The fields of a job are read after a successful claim; they cannot change then, because the job ends only
when that chunk is counted as done.

A worker that finds nothing spins for a while, then sleeps on a condition variable. To wake a thread takes tens of
microseconds, which a loop of short training steps would lose every time; so a worker whose last pause was shorter than
a millisecond spins that long (offering its processor to others), any other for 50 microseconds only. The caller wakes
sleepers at the start of a program that will need them, or after publishing a job; the sequentially consistent order of
"publish, then look for sleepers" against "announce sleep, then look for work" makes a lost wake-up impossible.
"""

from __future__ import annotations

import string
import time

from rushlight.compile.cpu import queue_ir

__all__ = ["POOL_BYTES", "WORDS", "executor_ir"]

#: Where things are in the pool's memory, in 8-byte words. Fields that different threads write are 128 bytes apart.
WORDS = {
    "TICKET": 0,
    "KERNEL": 16, "TABLE": 17, "PARAMS": 18, "PARTS": 19, "CHUNKS": 20, "FIRST": 21,
    "DONE": 32,
    "BUSY": 48,
    "SLEEPING": 64, "EPOCH": 65,
    "STOP": 80, "THREADS": 81, "SPIN": 82, "SPIN_LONG": 83, "NEAR": 84,
    "MUTEX": 96,  # pthread_mutex_t: 40 bytes on Linux, 64 on macOS
    "COND": 112,  # pthread_cond_t: 48 bytes
    **queue_ir.WORDS,
}  # fmt: skip
POOL_BYTES = 256 * 8

#: An instruction is four words: kernel address, parameters, parts, grain.
_INSTRUCTION_BYTES = 32

_PAUSE = {
    "x86_64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
    "aarch64": ("call void @llvm.aarch64.isb(i32 15)", "declare void @llvm.aarch64.isb(i32)"),
}

_TEXT = """
$declare_pause
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)

define void @rl_pool_init(ptr %pool) {
  %mutex = getelementptr i64, ptr %pool, i64 $MUTEX
  %cond = getelementptr i64, ptr %pool, i64 $COND
  %a = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %b = call i32 @pthread_cond_init(ptr %cond, ptr null)
  ret void
}

; Wake every sleeper. Nobody counts as sleeping from here on, so that the next job does not wake them again.
define private void @wake(ptr %pool) noinline {
  %mutex = getelementptr i64, ptr %pool, i64 $MUTEX
  %cond = getelementptr i64, ptr %pool, i64 $COND
  %sleeping_at = getelementptr i64, ptr %pool, i64 $SLEEPING
  %epoch_at = getelementptr i64, ptr %pool, i64 $EPOCH
  %a = call i32 @pthread_mutex_lock(ptr %mutex)
  %epoch = load i64, ptr %epoch_at
  %next = add i64 %epoch, 1
  store i64 %next, ptr %epoch_at
  store atomic i64 0, ptr %sleeping_at seq_cst, align 8
  %b = call i32 @pthread_cond_broadcast(ptr %cond)
  %c = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}

define void @rl_pool_stop(ptr %pool) {
  %stop_at = getelementptr i64, ptr %pool, i64 $STOP
  store atomic i64 1, ptr %stop_at seq_cst, align 8
  call void @wake(ptr %pool)
  ret void
}

define void @rl_spin(i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  $pause
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %loop, label %out
out:
  ret void
}

; Run chunk %index of the pool's present job, which the caller has claimed, and count it as done. Chunks differ by one part
; at most: threads that do as many chunks as each other do as much.
define private void @run_chunk(ptr %pool, i64 %index) {
  %kernel_at = getelementptr i64, ptr %pool, i64 $KERNEL
  %table_at = getelementptr i64, ptr %pool, i64 $TABLE
  %params_at = getelementptr i64, ptr %pool, i64 $PARAMS
  %parts_at = getelementptr i64, ptr %pool, i64 $PARTS
  %chunks_at = getelementptr i64, ptr %pool, i64 $CHUNKS
  %done_at = getelementptr i64, ptr %pool, i64 $DONE
  %first_at = getelementptr i64, ptr %pool, i64 $FIRST
  %kernel = load ptr, ptr %kernel_at
  %table = load ptr, ptr %table_at
  %params = load ptr, ptr %params_at
  %parts = load i64, ptr %parts_at
  %chunks = load i64, ptr %chunks_at
  %first = load i64, ptr %first_at
  %before = mul i64 %index, %parts
  %low = udiv i64 %before, %chunks
  %begin = add i64 %first, %low
  %after = add i64 %before, %parts
  %high = udiv i64 %after, %chunks
  %end = add i64 %first, %high
  call void %kernel(ptr %table, ptr %params, i64 %begin, i64 %end)
  %was = atomicrmw add ptr %done_at, i64 1 release
  ret void
}
declare i64 @llvm.smin.i64(i64, i64)

; The time in nanoseconds, from some fixed moment on.
define private i64 @now() {
  %time = alloca [2 x i64]
  %a = call i32 @clock_gettime(i32 $CLOCK, ptr %time)
  %seconds = load i64, ptr %time
  %rest_at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest_at
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}

define private i1 @unclaimed(i64 %ticket) alwaysinline {
  %low_ = lshr i64 %ticket, 16
  %low = and i64 %low_, 65535
  %high = and i64 %ticket, 65535
  %some = icmp ult i64 %low, %high
  ret i1 %some
}

; Claim a chunk of the present job and run it; false if all are claimed. The caller of a job passes 65536 and takes the first
; one that is left, workers pass -1 and take the last.
define private i1 @work(ptr %pool, i64 %step) alwaysinline {
entry:
  br label %look
look:
  %ticket = load atomic i64, ptr %pool monotonic, align 8
  %some = call i1 @unclaimed(i64 %ticket)
  br i1 %some, label %claim, label %none
claim:
  %after = add i64 %ticket, %step
  %swap = cmpxchg ptr %pool, i64 %ticket, i64 %after acquire monotonic, align 8
  %mine = extractvalue { i64, i1 } %swap, 1
  br i1 %mine, label %run, label %look
run:
  %low_ = lshr i64 %ticket, 16
  %low = and i64 %low_, 65535
  %high = and i64 %after, 65535
  %first = icmp sgt i64 %step, 0
  %index = select i1 %first, i64 %low, i64 %high
  call void @run_chunk(ptr %pool, i64 %index)
  ret i1 true
none:
  ret i1 false
}

define void @rl_worker(ptr %pool) {
entry:
  %stop_at = getelementptr i64, ptr %pool, i64 $STOP
  %short_at = getelementptr i64, ptr %pool, i64 $SPIN
  %long_at = getelementptr i64, ptr %pool, i64 $SPIN_LONG
  %near_at = getelementptr i64, ptr %pool, i64 $NEAR
  %sleeping_at = getelementptr i64, ptr %pool, i64 $SLEEPING
  %epoch_at = getelementptr i64, ptr %pool, i64 $EPOCH
  %mutex = getelementptr i64, ptr %pool, i64 $MUTEX
  %cond = getelementptr i64, ptr %pool, i64 $COND
  br label %fresh

; %eager: the last pause between two jobs was a short one, so the next job may be near as well.
fresh:
  %eager = phi i1 [ false, %entry ], [ %eager, %look ], [ %eager, %program ],
                  [ true, %look2 ], [ true, %program2 ], [ %close, %woken ]
  %short = load i64, ptr %short_at
  br label %look
look:
  %left = phi i64 [ %short, %fresh ], [ %left1, %idle ]
  %worked = call i1 @work(ptr %pool, i64 -1)
  br i1 %worked, label %fresh, label %none
none:
  %queued = call i1 @queued(ptr %pool)
  br i1 %queued, label %program, label %nothing
program:
  call void @run_queued(ptr %pool, i64 9223372036854775807)
  br label %fresh
nothing:
  %stop = load atomic i64, ptr %stop_at monotonic, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %idle
idle:
  $pause
  %left1 = sub i64 %left, 1
  %tired = icmp sle i64 %left1, 0
  br i1 %tired, label %drowsy, label %look

; Second stage of waiting: only if eager, and offering the processor to others now and then.
drowsy:
  %idle_since = call i64 @now()
  %long = load i64, ptr %long_at
  br i1 %eager, label %look2, label %sleep
look2:
  %left2 = phi i64 [ %long, %drowsy ], [ %left3, %again2 ]
  %worked2 = call i1 @work(ptr %pool, i64 -1)
  br i1 %worked2, label %fresh, label %none2
none2:
  %queued2 = call i1 @queued(ptr %pool)
  br i1 %queued2, label %program2, label %idle2
program2:
  call void @run_queued(ptr %pool, i64 9223372036854775807)
  br label %fresh
idle2:
  $pause
  %left3 = sub i64 %left2, 1
  %phase = and i64 %left3, 127
  %offer = icmp eq i64 %phase, 0
  br i1 %offer, label %offer2, label %again2
offer2:
  %y = call i32 @sched_yield()
  br label %again2
again2:
  %stop3 = load atomic i64, ptr %stop_at monotonic, align 8
  %on = icmp eq i64 %stop3, 0
  %awake = icmp sgt i64 %left3, 0
  %keep = and i1 %on, %awake
  br i1 %keep, label %look2, label %sleep

sleep:
  %a = call i32 @pthread_mutex_lock(ptr %mutex)
  %epoch = load i64, ptr %epoch_at
  %announced = atomicrmw add ptr %sleeping_at, i64 1 seq_cst
  fence seq_cst
  %ticket4 = load atomic i64, ptr %pool seq_cst, align 8
  %some4 = call i1 @unclaimed(i64 %ticket4)
  %queued4 = call i1 @queued(ptr %pool)
  %work4 = or i1 %some4, %queued4
  br i1 %work4, label %stay, label %bed
stay:
  %taken_back = atomicrmw sub ptr %sleeping_at, i64 1 seq_cst
  br label %woken
bed:
  %epoch_now = load i64, ptr %epoch_at
  %same = icmp eq i64 %epoch_now, %epoch
  %stop4 = load atomic i64, ptr %stop_at seq_cst, align 8
  %going = icmp eq i64 %stop4, 0
  %wait = and i1 %same, %going
  br i1 %wait, label %doze, label %woken
doze:
  %b = call i32 @pthread_cond_wait(ptr %cond, ptr %mutex)
  br label %bed
woken:
  %c = call i32 @pthread_mutex_unlock(ptr %mutex)
  %woken_at = call i64 @now()
  %gap = sub i64 %woken_at, %idle_since
  %near = load i64, ptr %near_at
  %close = icmp slt i64 %gap, %near
  br label %fresh
leave:
  ret void
}

; Run %parts parts of an instruction, from %first on, on all threads. The caller of this function owns the pool's BUSY word.
define private void @fork_join(ptr %pool, ptr %kernel, ptr %table, ptr %params, i64 %first, i64 %parts,
                               i64 %chunks) noinline {
entry:
  %kernel_at = getelementptr i64, ptr %pool, i64 $KERNEL
  %table_at = getelementptr i64, ptr %pool, i64 $TABLE
  %params_at = getelementptr i64, ptr %pool, i64 $PARAMS
  %parts_at = getelementptr i64, ptr %pool, i64 $PARTS
  %chunks_at = getelementptr i64, ptr %pool, i64 $CHUNKS
  %done_at = getelementptr i64, ptr %pool, i64 $DONE
  %sleeping_at = getelementptr i64, ptr %pool, i64 $SLEEPING
  store ptr %kernel, ptr %kernel_at
  store ptr %table, ptr %table_at
  store ptr %params, ptr %params_at
  store i64 %parts, ptr %parts_at
  store i64 %chunks, ptr %chunks_at
  %first_at = getelementptr i64, ptr %pool, i64 $FIRST
  store i64 %first, ptr %first_at
  store atomic i64 0, ptr %done_at monotonic, align 8
  %old = load atomic i64, ptr %pool monotonic, align 8
  %generation = lshr i64 %old, 32
  %generation1 = add i64 %generation, 1
  %shifted = shl i64 %generation1, 32
  %published = or i64 %shifted, %chunks
  store atomic i64 %published, ptr %pool seq_cst, align 8
  fence seq_cst
  %sleeping = load atomic i64, ptr %sleeping_at seq_cst, align 8
  %sleepers = icmp ne i64 %sleeping, 0
  br i1 %sleepers, label %call_wake, label %look
call_wake:
  call void @wake(ptr %pool)
  br label %look
look:
  %worked = call i1 @work(ptr %pool, i64 65536)
  br i1 %worked, label %look, label %join
join:
  br label %wait
wait:
  %spins = phi i64 [ 0, %join ], [ %spins1, %again ]
  %done = load atomic i64, ptr %done_at acquire, align 8
  %all = icmp eq i64 %done, %chunks
  br i1 %all, label %out, label %pause
pause:
  $pause
  %spins1 = add i64 %spins, 1
  ; A worker may have lost its processor in the middle of a chunk: give it ours now and then.
  %phase = and i64 %spins1, 1023
  %yield = icmp eq i64 %phase, 0
  br i1 %yield, label %give, label %again
give:
  %y = call i32 @sched_yield()
  br label %again
again:
  br label %wait
out:
  ret void
}

define i64 @rl_execute(ptr %instructions, i64 %n, ptr %table, ptr %pool) {
entry:
  %errors = load ptr, ptr %table
  %threads_at = getelementptr i64, ptr %pool, i64 $THREADS
  %busy_at = getelementptr i64, ptr %pool, i64 $BUSY
  %threads = load atomic i64, ptr %threads_at monotonic, align 8
  %several = icmp sgt i64 %threads, 1
  %pieces = shl i64 %threads, 2
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %before, label %good
before:
  %sleeping_at = getelementptr i64, ptr %pool, i64 $SLEEPING
  %sleeping = load atomic i64, ptr %sleeping_at monotonic, align 8
  %sleepers = icmp ne i64 %sleeping, 0
  br i1 %sleepers, label %scan, label %loop
scan:
  ; Will any instruction be shared? Then the workers can wake up during those before it.
  %s = phi i64 [ 0, %before ], [ %s1, %scan_next ]
  %s_offset = mul i64 %s, $INSTRUCTION_BYTES
  %s_at = getelementptr i8, ptr %instructions, i64 %s_offset
  %s_parts_at = getelementptr i64, ptr %s_at, i64 2
  %s_grain_at = getelementptr i64, ptr %s_at, i64 3
  %s_parts = load i64, ptr %s_parts_at
  %s_grain = load i64, ptr %s_grain_at
  %s_least = call i64 @llvm.smax.i64(i64 %s_grain, i64 1)
  %s_waves = icmp slt i64 %s_grain, 0
  %s_minus = sub i64 0, %s_grain
  %s_wave = select i1 %s_waves, i64 %s_minus, i64 %s_parts
  %s_shared = icmp sgt i64 %s_wave, %s_least
  br i1 %s_shared, label %rouse, label %scan_next
scan_next:
  %s1 = add i64 %s, 1
  %s_more = icmp slt i64 %s1, %n
  br i1 %s_more, label %scan, label %loop
rouse:
  call void @wake(ptr %pool)
  br label %loop
loop:
  %i = phi i64 [ 0, %before ], [ 0, %scan_next ], [ 0, %rouse ], [ %i1, %next ]
  %offset = mul i64 %i, $INSTRUCTION_BYTES
  %at = getelementptr i8, ptr %instructions, i64 %offset
  %params_at = getelementptr i64, ptr %at, i64 1
  %parts_at = getelementptr i64, ptr %at, i64 2
  %grain_at = getelementptr i64, ptr %at, i64 3
  %kernel = load ptr, ptr %at
  %params = load ptr, ptr %params_at
  %parts = load i64, ptr %parts_at
  %grain = load i64, ptr %grain_at
  %waves = icmp slt i64 %grain, 0
  %minus = sub i64 0, %grain
  %asked = select i1 %waves, i64 %minus, i64 %parts
  %wave = call i64 @llvm.smin.i64(i64 %asked, i64 %parts)
  %divisible = icmp sgt i64 %wave, 1
  %b = and i1 %divisible, %several
  br i1 %b, label %divide, label %serial
divide:
  %least = call i64 @llvm.smax.i64(i64 %grain, i64 1)
  %most = udiv i64 %wave, %least
  %chunks = call i64 @llvm.smin.i64(i64 %most, i64 %pieces)
  %worth = icmp sgt i64 %chunks, 1
  br i1 %worth, label %lock, label %serial
lock:
  ; One program has the pool at a time; another thread's program meanwhile runs its parts by itself.
  %swap = cmpxchg ptr %busy_at, i64 0, i64 1 acquire monotonic, align 8
  %owner = extractvalue { i64, i1 } %swap, 1
  br i1 %owner, label %parallel, label %serial
parallel:
  %first = phi i64 [ 0, %lock ], [ %first1, %parallel ]
  %left = sub i64 %parts, %first
  %now_parts = call i64 @llvm.smin.i64(i64 %wave, i64 %left)
  %now_chunks = call i64 @llvm.smin.i64(i64 %chunks, i64 %now_parts)
  call void @fork_join(ptr %pool, ptr %kernel, ptr %table, ptr %params, i64 %first, i64 %now_parts, i64 %now_chunks)
  %first1 = add i64 %first, %wave
  %another = icmp slt i64 %first1, %parts
  br i1 %another, label %parallel, label %release
release:
  store atomic i64 0, ptr %busy_at release, align 8
  br label %check
serial:
  call void %kernel(ptr %table, ptr %params, i64 0, i64 %parts)
  br label %check
check:
  %error = load atomic i64, ptr %errors monotonic, align 8
  %i1 = add i64 %i, 1
  %failed = icmp ne i64 %error, 0
  br i1 %failed, label %bad, label %next
next:
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %loop, label %good
bad:
  %number_at = getelementptr i64, ptr %errors, i64 3
  store i64 %i, ptr %number_at
  ret i64 %i1
good:
  ret i64 0
}
declare i64 @llvm.smax.i64(i64, i64)
"""


def executor_ir(machine: str) -> str:
    """The IR text for a machine (``"x86_64"``, ``"aarch64"``; others spin without a pause instruction)."""
    pause, declare_pause = _PAUSE.get(machine, ("fence seq_cst", ""))
    numbers = {name: str(word) for name, word in WORDS.items()}
    return string.Template(_TEXT + queue_ir.TEXT).substitute(
        numbers,
        LAST=queue_ir.ROOM - 1,
        pause=pause,
        declare_pause=declare_pause,
        INSTRUCTION_BYTES=_INSTRUCTION_BYTES,
        CLOCK=time.CLOCK_MONOTONIC,
    )
