//! What is kept for each thread: the syscall it is in, and where its time went.
//!
//! A thread's entry lies in an array at its id modulo the size, since an array look-up costs the kernel two
//! instructions and this is done at every syscall and every switch. A thread that finds its place taken by
//! another living thread has its entry in a hash map instead.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap},
};
use hitscope_schemas::{event::lost, sched::ProcessKey, sockets::ThreadTimes};

use crate::{
    arch::wait,
    kernel::{Address, current_task, process_start_ns, read_or_zero},
    lost::count,
    probes::tls::Call,
};

/// Places in the array; a power of two.
const PLACES: u32 = 1 << 15;

/// One thread. Clocks of two CPUs may differ by a little and even go back for a moment (`ktime_get_mono_fast_ns`): so what lies
/// between two readings is never less than nothing.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// Kernel `pid`; 0: the place is free.
    pub thread_id: u32,
    /// Number of the syscall it is in or was in last, with [`COMPAT`](hitscope_schemas::syscalls::COMPAT).
    pub syscall: u32,
    /// Its first argument, of one that moves bytes: the file descriptor.
    pub descriptor: u64,
    /// When that began, ns; 0: none was seen yet, of this program.
    pub enter_ns: u64,
    /// When the last one returned, ns.
    pub exit_ns: u64,
    /// Its process.
    pub process: ProcessKey,
    /// Since when it has been on a CPU, ns; 0: it is not on one, as far as was seen.
    pub on_cpu_since: u64,
    /// Since when it has been waiting for a CPU, ns; 0: it is not.
    pub runnable_since: u64,
    /// Since when it has been asleep, ns; 0: it is not.
    pub blocked_since: u64,
    /// What for: one of [`wait`].
    pub blocked_on: u32,
    /// 1: inside the syscall, 0: the syscall has returned.
    pub inside: u32,
    /// Time asleep that goes to the class of whatever is read or written next, ns.
    pub awaited_ns: u64,
    /// Of its closed stretches; CPU by the scheduler's own account.
    pub times: ThreadTimes,
    /// Times at the begin of the last call that sends.
    pub entered: ThreadTimes,
    /// As `times.cpu_ns`, up to where its process was last given it.
    pub accounted_ns: u64,
    /// That part of `times.runqueue_ns` that its process was not yet given, ns.
    pub runqueue_due_ns: u64,
    /// The call of a TLS library that it is in.
    pub tls: Call,
}

const NO_TIMES: ThreadTimes = ThreadTimes { cpu_ns: 0, runqueue_ns: 0, disk_ns: 0, lock_ns: 0, network_ns: 0 };

impl Thread {
    /// Where its time went up to now: in its closed stretches and in the one it is in. Zero where nothing was seen of it yet.
    /// To be asked on the thread itself.
    #[inline(always)]
    pub fn times(&mut self, now: u64) -> ThreadTimes {
        if self.came_unseen() {
            catch_up(self, now, read_or_zero(current_task(), offset!(task_sum_exec_runtime)));
        }
        if self.on_cpu_since == 0 {
            return NO_TIMES;
        }
        ThreadTimes { cpu_ns: self.times.cpu_ns + now.saturating_sub(self.on_cpu_since), ..self.times }
    }

    /// Whether it, which runs, was last seen waiting.
    #[inline(always)]
    pub fn came_unseen(&self) -> bool {
        self.on_cpu_since == 0 && (self.runnable_since != 0 || self.blocked_since != 0)
    }

    /// It gets a CPU.
    #[inline(always)]
    pub fn came(&mut self, now: u64) {
        self.on_cpu_since = now;
        if self.blocked_since != 0 {
            // Its wakeup was not seen.
            self.awake(now);
        }
        if self.runnable_since != 0 {
            let waited = now.saturating_sub(self.runnable_since);
            self.runnable_since = 0;
            self.times.runqueue_ns += waited;
            self.runqueue_due_ns += waited;
        }
    }

    /// It sleeps no more: gives the time to its class.
    #[inline(always)]
    pub fn awake(&mut self, now: u64) {
        let slept = now.saturating_sub(self.blocked_since);
        self.blocked_since = 0;
        match self.blocked_on as u8 {
            wait::LOCK => self.times.lock_ns += slept,
            wait::NETWORK => self.times.network_ns += slept,
            wait::DISK => self.times.disk_ns += slept,
            wait::AWAITED => self.awaited_ns += slept,
            _ => {}
        }
    }
}

/// For a thread that [came unseen](Thread::came_unseen), and has run up to now. What it has used since by the scheduler's account,
/// `cpu_ns` in all, it did not wait.
#[inline(never)]
pub fn catch_up(thread: &mut Thread, now: u64, cpu_ns: u64) {
    let since = thread.runnable_since.max(thread.blocked_since);
    let ran = cpu_ns.saturating_sub(thread.times.cpu_ns);
    thread.times.cpu_ns += ran;
    thread.came(now.saturating_sub(ran).max(since));
    thread.on_cpu_since = now;
}

#[map]
static THREADS: Array<Thread> = Array::with_max_entries(PLACES, 0);

#[map]
static THREADS_SPILLED: HashMap<u32, Thread> = HashMap::with_max_entries(8192, 0);

/// The entry of a thread, if it has one.
#[inline(always)]
pub fn get(thread_id: u32) -> Option<&'static mut Thread> {
    let place = THREADS.get_ptr_mut(thread_id & (PLACES - 1))?;
    // SAFETY: map values stay valid for the program's run; only the thread itself, or the scheduler for it, writes.
    unsafe {
        if (*place).thread_id == thread_id {
            return Some(&mut *place);
        }
        if (*place).thread_id == 0 {
            return None;
        }
        THREADS_SPILLED.get_ptr_mut(thread_id).map(|entry| &mut *entry)
    }
}

/// The entry of a thread, made where there is none; `task` is only asked then.
#[inline(always)]
pub fn get_or_insert(thread_id: u32, pid: u32, task: impl FnOnce() -> Address) -> Option<&'static mut Thread> {
    if let Some(thread) = get(thread_id) {
        return Some(thread);
    }
    insert(thread_id, pid, task())
}

#[inline(never)]
fn insert(thread_id: u32, pid: u32, task: Address) -> Option<&'static mut Thread> {
    let cpu_ns = read_or_zero(task, offset!(task_sum_exec_runtime));
    let thread = Thread {
        thread_id,
        syscall: 0,
        descriptor: 0,
        enter_ns: 0,
        exit_ns: 0,
        process: ProcessKey { start_ns: process_start_ns(task), pid, generation: 0 },
        on_cpu_since: 0,
        runnable_since: 0,
        blocked_since: 0,
        blocked_on: 0,
        inside: 0,
        awaited_ns: 0,
        times: ThreadTimes { cpu_ns, ..NO_TIMES },
        entered: NO_TIMES,
        accounted_ns: cpu_ns,
        runqueue_due_ns: 0,
        tls: Call::NONE,
    };
    let place = THREADS.get_ptr_mut(thread_id & (PLACES - 1))?;
    // SAFETY: as in `get`. Two threads may find the same place free at once; the later stays, and the
    // earlier, which no longer finds its id there, loses that one measurement (counted at its exit).
    unsafe {
        if (*place).thread_id == 0 {
            *place = thread;
            return Some(&mut *place);
        }
    }
    if THREADS_SPILLED.insert(thread_id, thread, 0).is_err() {
        count(lost::THREAD_MAP_FULL);
        return None;
    }
    THREADS_SPILLED.get_ptr_mut(thread_id).map(|entry| unsafe { &mut *entry })
}

/// Frees the entry of a thread that is gone.
#[inline(always)]
pub fn remove(thread_id: u32) {
    if let Some(place) = THREADS.get_ptr_mut(thread_id & (PLACES - 1)) {
        // SAFETY: as in `get`.
        unsafe {
            if (*place).thread_id == thread_id {
                (*place).thread_id = 0;
                return;
            }
        }
    }
    let _ = THREADS_SPILLED.remove(thread_id);
}
