//! What one process and the whole machine have used so far.
//!
//! On Linux files are opened once and read again in place: one system call each, and they keep
//! meaning the same process even if its id is given to another.

use super::elsewhere;
use crate::hardware::root::SystemRoot;
use crate::units::to_f64;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ProcessReading {
    /// Processor time of all its threads, ended ones included, seconds.
    pub(super) cpu_seconds: f64,
    /// Resident memory, bytes; `None` once the process has ended.
    pub(super) rss_bytes: Option<u64>,
    /// Highest resident memory of its life so far, bytes.
    pub(super) peak_rss_bytes: Option<u64>,
}

/// Processor time of the whole machine since it started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MachineLoad {
    /// Ticks in which processors worked.
    pub(super) busy: u64,
    /// Ticks that a hypervisor gave to others although there was work.
    pub(super) stolen: u64,
    /// All ticks.
    pub(super) total: u64,
}

impl MachineLoad {
    /// What there was since an earlier reading; `None` if that is nothing, or a counter went backwards.
    pub(super) fn since(self, earlier: Self) -> Option<Self> {
        Some(Self {
            busy: self.busy.checked_sub(earlier.busy)?,
            stolen: self.stolen.checked_sub(earlier.stolen)?,
            total: self.total.checked_sub(earlier.total).filter(|&total| total > 0)?,
        })
    }

    /// Seconds that a number of ticks are.
    pub(super) fn seconds(ticks: u64) -> f64 {
        to_f64(ticks) / to_f64(rustix::param::clock_ticks_per_second())
    }
}

/// The whole machine's processor time; `None` without a readable `/proc/stat`.
pub(super) fn machine_load(root: &SystemRoot) -> Option<MachineLoad> {
    parse_load(&root.text("/proc/stat").ok()?)
}

/// Reads the first line of `/proc/stat`.
///
/// Source: `proc_stat(5)`. Time of guests (fields 9 and 10) is part of user and nice already.
fn parse_load(text: &str) -> Option<MachineLoad> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks = fields.split_whitespace().take(8).map(|field| field.parse::<u64>().ok());
    let ticks = ticks.collect::<Option<Vec<u64>>>()?;
    let [user, nice, system, idle, io_wait, interrupts, soft_interrupts, stolen] = *ticks else {
        return None;
    };
    let sum = |parts: &[u64]| parts.iter().copied().fold(0, u64::saturating_add);
    let busy = sum(&[user, nice, system, interrupts, soft_interrupts]);
    Some(MachineLoad { busy, stolen, total: sum(&[busy, idle, io_wait, stolen]) })
}

/// The open files of a process, whether it exists or not.
#[derive(Debug)]
pub(super) struct ProcessFiles {
    files: Option<(File, File)>,
    buffer: Vec<u8>,
    /// On systems without such files.
    elsewhere: Option<elsewhere::Process>,
}

impl ProcessFiles {
    /// Opens the files of a process; if there is no such process, all readings are `None`.
    pub(super) fn open(root: &SystemRoot, pid: u32) -> Self {
        let open = |name| File::open(root.locate(format!("/proc/{pid}/{name}"))).ok();
        // `status` has about 1.5 KB, more on machines whose list of processors is long.
        Self {
            files: open("stat").zip(open("status")),
            buffer: vec![0; 8192],
            elsewhere: (!cfg!(target_os = "linux")).then(|| elsewhere::Process::new(pid)),
        }
    }

    /// Looks at the process; `None` if it is gone.
    pub(super) fn read(&mut self) -> Option<ProcessReading> {
        if let Some(process) = &mut self.elsewhere {
            return process.read();
        }
        let (stat, status) = self.files.as_ref()?;
        let length = stat.read_at(&mut self.buffer, 0).ok()?;
        let ticks = cpu_ticks(self.buffer.get(..length)?)?;
        let length = status.read_at(&mut self.buffer, 0).ok()?;
        // Since Linux 6.2 memory may lack what each processor has not added up yet, about 128 KiB
        // per processor on small machines. Exact sums (smaps) cost far more than they are worth.
        let status = self.buffer.get(..length)?;
        Some(ProcessReading {
            cpu_seconds: MachineLoad::seconds(ticks),
            rss_bytes: status_bytes(status, b"VmRSS:"),
            peak_rss_bytes: status_bytes(status, b"VmHWM:"),
        })
    }
}

/// Processor time in `/proc/PID/stat`: fields 14 and 15, user and system.
///
/// The second field is the program's name in parentheses and may hold anything, more
/// parentheses included; the last one ends it. Source: `proc_pid_stat(5)`.
fn cpu_ticks(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    user.checked_add(fields.next()?.parse().ok()?)
}

/// Bytes from a line of `/proc/PID/status` such as `VmRSS:   123 kB`.
fn status_bytes(status: &[u8], key: &[u8]) -> Option<u64> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(key))?;
    let value = std::str::from_utf8(line).ok()?.trim().strip_suffix("kB")?;
    value.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;

    #[test]
    fn the_machines_time_is_split_into_busy_stolen_and_the_rest() {
        let load = parse_load("cpu  10 20 30 400 50 6 7 80 5 5\ncpu0 1 1 1 1\n");
        assert_eq!(load, Some(MachineLoad { busy: 73, stolen: 80, total: 603 }));
    }

    #[test]
    fn hostile_statistics_yield_nothing_and_never_overflow() {
        for text in
            ["", "cpu", "cpu 1 2 3", "cpu -1 2 3 4 5 6 7 8", "cpu a b c d e f g h", "intr 1"]
        {
            assert_eq!(parse_load(text), None, "{text}");
        }
        let most = format!("cpu {}", [u64::MAX.to_string().as_str(); 8].join(" "));
        assert_eq!(parse_load(&most).unwrap().total, u64::MAX);
    }

    const STAT: &str = "7 (a) b) (c) R 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1 3 363";

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let tree = Tree::new(&[
            ("/proc/7/stat", STAT),
            ("/proc/7/status", "Name:\ta) b) (c\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"),
        ]);
        let mut files = ProcessFiles::open(&tree.root(), 7);
        let reading = files.read().unwrap();
        assert_eq!(reading.cpu_seconds.to_bits(), MachineLoad::seconds(300).to_bits());
        assert_eq!(reading.rss_bytes, Some(1 << 20));
        assert_eq!(reading.peak_rss_bytes, Some(2 << 20));
    }

    #[test]
    fn a_process_that_ended_but_was_not_waited_for_has_no_memory() {
        let tree = Tree::new(&[("/proc/7/stat", STAT), ("/proc/7/status", "State: Z (zombie)\n")]);
        let reading = ProcessFiles::open(&tree.root(), 7).read().unwrap();
        assert_eq!((reading.rss_bytes, reading.peak_rss_bytes), (None, None));
    }

    #[test]
    fn hostile_files_yield_nothing() {
        let negative = STAT.replace("250", "-250");
        let overflow = STAT.replace("250", "18446744073709551615");
        for stat in ["", ")", "7 (x) R", "no parentheses", negative.as_str(), overflow.as_str()] {
            let tree = Tree::new(&[("/proc/7/stat", stat), ("/proc/7/status", "VmRSS: -1 kB")]);
            assert_eq!(ProcessFiles::open(&tree.root(), 7).read(), None, "{stat}");
        }
        assert_eq!(ProcessFiles::open(&Tree::new(&[]).root(), 7).read(), None);
        assert_eq!(status_bytes(b"VmRSS: 99999999999999999999 kB", b"VmRSS:"), None);
        assert_eq!(status_bytes(b"VmRSS: \xff kB", b"VmRSS:"), None);
    }
}
