"""The native code of the queue of launched programs, as LLVM IR text: part of the module of :mod:`.pool_ir`.

* ``i64 rl_launch(ptr pool, ptr instructions, i64 n, ptr table)`` puts a program at the end of the queue and returns its
  number. One thread at a time may call it, and the queue must have room (:data:`ROOM` programs that have not ended).
* ``void rl_await(ptr pool, i64 number)`` comes back when that program, and so every one before it, has ended.

Programs run one after the other in the order of their numbers. Whoever finds the *running* word free and a program in the
queue takes the word and runs what is queued: a worker that is idle, or a thread in ``rl_await``, so nobody waits for a worker
that sleeps, and a process without workers gets on as well. Who waits while another one runs the program takes part as a worker.

A program that leaves an error *halts* the queue: those behind it are not run, they end at once with the result -1, until
``HALTED`` is cleared.

The order of the stores on both sides makes lost programs impossible: ``rl_launch`` publishes, then looks for sleepers; a
worker announces its sleep, then looks for programs; who has run the last program frees the word, then looks for another.
"""

from __future__ import annotations

__all__ = ["ROOM", "TEXT", "WORDS"]

#: Programs that the ring holds: those that have not ended, and the last ones that have, whose results are still to be read.
ROOM = 4

WORDS = {
    "LAUNCHED": 128,
    "TAKEN": 144, "RUNNING": 145, "ENDED": 146, "HALTED": 147,
    "WAITING": 160,
    "QUEUE": 176,  # ROOM x (instructions, n, table, result)
}  # fmt: skip

TEXT = """
define private i1 @queued(ptr %pool) alwaysinline {
  %launched_at = getelementptr i64, ptr %pool, i64 $LAUNCHED
  %taken_at = getelementptr i64, ptr %pool, i64 $TAKEN
  %running_at = getelementptr i64, ptr %pool, i64 $RUNNING
  %launched = load atomic i64, ptr %launched_at seq_cst, align 8
  %taken = load atomic i64, ptr %taken_at monotonic, align 8
  %running = load atomic i64, ptr %running_at monotonic, align 8
  %some = icmp ne i64 %launched, %taken
  %free = icmp eq i64 %running, 0
  %both = and i1 %some, %free
  ret i1 %both
}

; Run what is queued, up to the program %last, unless another thread does.
define private void @run_queued(ptr %pool, i64 %last) noinline {
entry:
  %launched_at = getelementptr i64, ptr %pool, i64 $LAUNCHED
  %taken_at = getelementptr i64, ptr %pool, i64 $TAKEN
  %running_at = getelementptr i64, ptr %pool, i64 $RUNNING
  %ended_at = getelementptr i64, ptr %pool, i64 $ENDED
  %halted_at = getelementptr i64, ptr %pool, i64 $HALTED
  %waiting_at = getelementptr i64, ptr %pool, i64 $WAITING
  %queue = getelementptr i64, ptr %pool, i64 $QUEUE
  br label %try
try:
  %swap = cmpxchg ptr %running_at, i64 0, i64 1 seq_cst seq_cst, align 8
  %mine = extractvalue { i64, i1 } %swap, 1
  br i1 %mine, label %look, label %out
look:
  %taken = load atomic i64, ptr %taken_at monotonic, align 8
  %launched = load atomic i64, ptr %launched_at seq_cst, align 8
  %some = icmp slt i64 %taken, %launched
  %wanted = icmp slt i64 %taken, %last
  %go = and i1 %some, %wanted
  br i1 %go, label %take, label %free
take:
  %number = add i64 %taken, 1
  store atomic i64 %number, ptr %taken_at monotonic, align 8
  %place = and i64 %taken, $LAST
  %word = shl i64 %place, 2
  %instructions_at = getelementptr i64, ptr %queue, i64 %word
  %n_at = getelementptr i64, ptr %instructions_at, i64 1
  %table_at = getelementptr i64, ptr %instructions_at, i64 2
  %result_at = getelementptr i64, ptr %instructions_at, i64 3
  %halted = load atomic i64, ptr %halted_at seq_cst, align 8
  %on = icmp eq i64 %halted, 0
  br i1 %on, label %run, label %skip
run:
  %instructions = load ptr, ptr %instructions_at
  %n = load i64, ptr %n_at
  %table = load ptr, ptr %table_at
  %failed = call i64 @rl_execute(ptr %instructions, i64 %n, ptr %table, ptr %pool)
  store i64 %failed, ptr %result_at
  %good = icmp eq i64 %failed, 0
  br i1 %good, label %end, label %halt
halt:
  store atomic i64 1, ptr %halted_at seq_cst, align 8
  br label %end
skip:
  store i64 -1, ptr %result_at
  br label %end
end:
  store atomic i64 %number, ptr %ended_at seq_cst, align 8
  fence seq_cst
  %waiting = load atomic i64, ptr %waiting_at seq_cst, align 8
  %anybody = icmp ne i64 %waiting, 0
  br i1 %anybody, label %call, label %look
call:
  call void @wake(ptr %pool)
  br label %look
free:
  store atomic i64 0, ptr %running_at seq_cst, align 8
  fence seq_cst
  %launched2 = load atomic i64, ptr %launched_at seq_cst, align 8
  %more = icmp slt i64 %taken, %launched2
  %wanted2 = icmp slt i64 %taken, %last
  %again = and i1 %more, %wanted2
  br i1 %again, label %try, label %left
left:
  ; What is behind %last is for a worker: one may have gone to sleep while the word was taken.
  br i1 %more, label %hand_over, label %out
hand_over:
  call void @wake(ptr %pool)
  br label %out
out:
  ret void
}

define i64 @rl_launch(ptr %pool, ptr %instructions, i64 %n, ptr %table) {
entry:
  %launched_at = getelementptr i64, ptr %pool, i64 $LAUNCHED
  %sleeping_at = getelementptr i64, ptr %pool, i64 $SLEEPING
  %queue = getelementptr i64, ptr %pool, i64 $QUEUE
  %launched = load atomic i64, ptr %launched_at monotonic, align 8
  %number = add i64 %launched, 1
  %place = and i64 %launched, $LAST
  %word = shl i64 %place, 2
  %instructions_at = getelementptr i64, ptr %queue, i64 %word
  %n_at = getelementptr i64, ptr %instructions_at, i64 1
  %table_at = getelementptr i64, ptr %instructions_at, i64 2
  store ptr %instructions, ptr %instructions_at
  store i64 %n, ptr %n_at
  store ptr %table, ptr %table_at
  store atomic i64 %number, ptr %launched_at seq_cst, align 8
  fence seq_cst
  %sleeping = load atomic i64, ptr %sleeping_at seq_cst, align 8
  %sleepers = icmp ne i64 %sleeping, 0
  br i1 %sleepers, label %call, label %out
call:
  call void @wake(ptr %pool)
  br label %out
out:
  ret i64 %number
}

define void @rl_await(ptr %pool, i64 %number) {
entry:
  %ended_at = getelementptr i64, ptr %pool, i64 $ENDED
  %long_at = getelementptr i64, ptr %pool, i64 $SPIN_LONG
  %waiting_at = getelementptr i64, ptr %pool, i64 $WAITING
  %sleeping_at = getelementptr i64, ptr %pool, i64 $SLEEPING
  %epoch_at = getelementptr i64, ptr %pool, i64 $EPOCH
  %mutex = getelementptr i64, ptr %pool, i64 $MUTEX
  %cond = getelementptr i64, ptr %pool, i64 $COND
  br label %fresh
fresh:
  %long = load i64, ptr %long_at
  br label %look
look:
  %left = phi i64 [ %long, %fresh ], [ %left1, %idle ], [ %left1, %offer ]
  %ended = load atomic i64, ptr %ended_at seq_cst, align 8
  %over = icmp sge i64 %ended, %number
  br i1 %over, label %out, label %open
open:
  %queued = call i1 @queued(ptr %pool)
  br i1 %queued, label %run, label %help
run:
  call void @run_queued(ptr %pool, i64 %number)
  br label %fresh
help:
  %worked = call i1 @work(ptr %pool, i64 -1)
  br i1 %worked, label %fresh, label %idle
idle:
  $pause
  %left1 = sub i64 %left, 1
  %phase = and i64 %left1, 1023
  %offer_now = icmp eq i64 %phase, 0
  br i1 %offer_now, label %offer, label %look
offer:
  %y = call i32 @sched_yield()
  %tired = icmp sle i64 %left1, 0
  br i1 %tired, label %sleep, label %look

sleep:
  %a = call i32 @pthread_mutex_lock(ptr %mutex)
  %epoch = load i64, ptr %epoch_at
  %w0 = atomicrmw add ptr %waiting_at, i64 1 seq_cst
  %s0 = atomicrmw add ptr %sleeping_at, i64 1 seq_cst
  fence seq_cst
  %ended2 = load atomic i64, ptr %ended_at seq_cst, align 8
  %over2 = icmp sge i64 %ended2, %number
  %ticket2 = load atomic i64, ptr %pool seq_cst, align 8
  %some2 = call i1 @unclaimed(i64 %ticket2)
  %queued2 = call i1 @queued(ptr %pool)
  %reason = or i1 %over2, %some2
  %reasons = or i1 %reason, %queued2
  br i1 %reasons, label %stay, label %bed
stay:
  %s1 = atomicrmw sub ptr %sleeping_at, i64 1 seq_cst
  br label %woken
bed:
  %epoch_now = load i64, ptr %epoch_at
  %same = icmp eq i64 %epoch_now, %epoch
  br i1 %same, label %doze, label %woken
doze:
  %b = call i32 @pthread_cond_wait(ptr %cond, ptr %mutex)
  br label %bed
woken:
  %w1 = atomicrmw sub ptr %waiting_at, i64 1 seq_cst
  %c = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %fresh
out:
  ret void
}
"""
