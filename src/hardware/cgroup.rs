//! Limits that a container or service manager puts on this process: control groups, version 1 and 2,
//! and the processors it may run on.
//!
//! A limit of any group on the path from a process's group to the top binds it, so the smallest is
//! taken. Inside a container the top is the container's own group, or the path named in
//! `/proc/self/cgroup` is the host's and the mount shows only the container's part of it.

use crate::hardware::disk::{Mount, mounts};
use crate::hardware::finding::Finding;
use crate::hardware::root::{SystemRoot, parse_list};
use crate::units::to_f64;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What this process may use of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Processors it may run on (affinity, cpuset).
    pub usable_cpus: Finding<u32>,
    /// Processor time per time that its group may use, in cores: 1.5 is one and a half cores.
    pub cpu_quota_cores: Finding<f64>,
    /// Memory that its group may use, bytes.
    pub memory_bytes: Finding<u64>,
}

impl Limits {
    /// Reads the limits of this process; its children inherit them.
    pub fn read(root: &SystemRoot) -> Self {
        let groups = Groups::of_process(root, "self");
        Self {
            usable_cpus: usable_cpus(root),
            cpu_quota_cores: groups.cpu_quota(root),
            memory_bytes: groups.memory_limit(root),
        }
    }
}

fn usable_cpus(root: &SystemRoot) -> Finding<u32> {
    let status = match root.text("/proc/self/status") {
        Ok(status) => status,
        Err(failure) => return Finding::Missing(failure.to_string()),
    };
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let count = list.and_then(parse_list).and_then(|cpus| u32::try_from(cpus.len()).ok());
    Finding::from_option(count, || "/proc/self/status has no Cpus_allowed_list".to_owned())
}

/// The folders of a process's control groups, from its own to the top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// Version 2, all controllers.
    unified: Vec<PathBuf>,
    /// Version 1, controller `cpu`.
    cpu: Vec<PathBuf>,
    /// Version 1, controller `memory`.
    memory: Vec<PathBuf>,
}

impl Groups {
    /// Finds the groups of a process; `process` is a pid or `self`. Unknown processes have none.
    pub(super) fn of_process(root: &SystemRoot, process: &str) -> Self {
        let mounts = mounts(root);
        let mut groups = Self::default();
        for line in root.text(format!("/proc/{process}/cgroup")).unwrap_or_default().lines() {
            // `hierarchy:controllers:path`; version 2 has hierarchy 0 and no controllers.
            let mut fields = line.splitn(3, ':');
            let (Some(hierarchy), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let has = |name: &str| controllers.split(',').any(|controller| controller == name);
            if hierarchy == "0" && controllers.is_empty() {
                groups.unified = folders(root, &mounts, "cgroup2", None, path);
            } else if has("cpu") {
                groups.cpu = folders(root, &mounts, "cgroup", Some("cpu"), path);
            } else if has("memory") {
                groups.memory = folders(root, &mounts, "cgroup", Some("memory"), path);
            }
        }
        groups
    }

    /// Why there is no limit.
    fn no_limit(&self) -> String {
        let none = self.unified.is_empty() && self.cpu.is_empty() && self.memory.is_empty();
        if none { "no control groups are mounted" } else { "no limit is set" }.to_owned()
    }

    fn cpu_quota(&self, root: &SystemRoot) -> Finding<f64> {
        let new = self.unified.iter().filter_map(|folder| {
            let text = root.text(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.split_once(' ')?;
            cores(quota.parse().ok()?, period.trim().parse().ok()?)
        });
        let old = self.cpu.iter().filter_map(|folder| {
            let quota = root.number(folder.join("cpu.cfs_quota_us")).ok()?;
            cores(quota, root.number(folder.join("cpu.cfs_period_us")).ok()?)
        });
        let least = new.chain(old).reduce(f64::min);
        Finding::from_option(least, || self.no_limit())
    }

    fn memory_limit(&self, root: &SystemRoot) -> Finding<u64> {
        // Version 1 writes "no limit" as the largest multiple of the page size.
        const NO_LIMIT: u64 = 1 << 60;
        let limits = [(&self.unified, "memory.max"), (&self.memory, "memory.limit_in_bytes")];
        let limits = limits.into_iter().flat_map(|(folders, name)| {
            folders.iter().filter_map(move |folder| root.number::<u64>(folder.join(name)).ok())
        });
        let least = limits.filter(|&limit| limit < NO_LIMIT).min();
        Finding::from_option(least, || self.no_limit())
    }

    /// How often, and for how long, the processor quota has stopped the process's group so far; `None`
    /// if no group has a quota.
    pub(super) fn stops(&self, root: &SystemRoot) -> Option<QuotaStops> {
        let folders = self.unified.iter().chain(&self.cpu);
        folders.filter_map(|folder| parse_stops(&root.text(folder.join("cpu.stat")).ok()?)).reduce(
            |left, right| QuotaStops {
                times: left.times.max(right.times),
                seconds: left.seconds.max(right.seconds),
            },
        )
    }
}

/// Stops by a processor quota, counted since the group was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct QuotaStops {
    /// How many periods ended early.
    pub(super) times: u64,
    /// For how long, added up over processors, seconds.
    pub(super) seconds: f64,
}

fn parse_stops(text: &str) -> Option<QuotaStops> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let nanoseconds = value("throttled_usec").and_then(|micro| micro.checked_mul(1000));
    let nanoseconds = nanoseconds.or_else(|| value("throttled_time"))?;
    Some(QuotaStops { times: value("nr_throttled")?, seconds: to_f64(nanoseconds) / 1e9 })
}

fn cores(quota: i64, period: i64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a short period")]
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// The folders of one hierarchy that bind a process, innermost first.
fn folders(
    root: &SystemRoot,
    mounts: &[Mount],
    file_system: &str,
    controller: Option<&str>,
    path: &str,
) -> Vec<PathBuf> {
    let mount = mounts.iter().find(|mount| {
        let controllers = || mount.options.split(',');
        mount.file_system == file_system
            && controller.is_none_or(|wanted| controllers().any(|option| option == wanted))
    });
    let Some(mount) = mount else { return Vec::new() };
    let top = Path::new(&mount.point);
    let below =
        Path::new(path).strip_prefix(&mount.root).or_else(|_| Path::new(path).strip_prefix("/"));
    // `..` appears when the process lives outside the container's part of the tree.
    let below = below.unwrap_or(Path::new(""));
    let inside = !below.components().any(|part| matches!(part, std::path::Component::ParentDir));
    let own = if inside { top.join(below) } else { top.to_owned() };
    let own = if root.exists(&own) { own } else { top.to_owned() };
    own.ancestors().take_while(|folder| folder.starts_with(top)).map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
    const SPLIT: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn the_smallest_limit_on_the_way_to_the_top_binds() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", UNIFIED),
            ("/proc/self/cgroup", "0::/system/job\n"),
            ("/proc/self/status", "Name: x\nCpus_allowed_list:\t0-1,4\n"),
            ("/sys/fs/cgroup/system/job/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/system/job/memory.max", "4294967296\n"),
            ("/sys/fs/cgroup/system/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/system/memory.max", "2147483648\n"),
        ]);
        let limits = Limits::read(&tree.root());
        assert_eq!(limits.usable_cpus, Finding::Known(3));
        assert_eq!(limits.cpu_quota_cores, Finding::Known(1.5));
        assert_eq!(limits.memory_bytes, Finding::Known(2 << 30));
    }

    #[test]
    fn version_1_and_a_container_that_sees_its_part_of_the_tree() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", SPLIT),
            ("/proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ]);
        let limits = Limits::read(&tree.root());
        assert_eq!(limits.cpu_quota_cores, Finding::Known(0.5));
        assert_eq!(limits.memory_bytes, Finding::Known(1 << 30));
    }

    #[test]
    fn unlimited_groups_say_so_in_both_versions() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", SPLIT),
            ("/proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let limits = Limits::read(&tree.root());
        assert_eq!(limits.cpu_quota_cores.reason(), Some("no limit is set"));
        assert_eq!(limits.memory_bytes.reason(), Some("no limit is set"));
        let nothing = Limits::read(&Tree::new(&[]).root());
        assert_eq!(nothing.memory_bytes.reason(), Some("no control groups are mounted"));
    }

    #[test]
    fn hostile_groups_set_no_limit() {
        for (quota, memory) in
            [("", ""), ("100000", "-1"), ("-5 0", "lots"), ("0 0", "\0"), ("1 -1", "0x10")]
        {
            let tree = Tree::new(&[
                ("/proc/self/mountinfo", UNIFIED),
                ("/proc/self/cgroup", "0::/../../etc\nnonsense\n::\n"),
                ("/sys/fs/cgroup/cpu.max", quota),
                ("/sys/fs/cgroup/memory.max", memory),
            ]);
            let limits = Limits::read(&tree.root());
            assert_eq!(limits.cpu_quota_cores.known(), None, "{quota}");
            assert_eq!(limits.memory_bytes.known(), None, "{memory}");
        }
    }

    #[test]
    fn stops_by_the_quota_are_read_in_both_versions() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", UNIFIED),
            ("/proc/7/cgroup", "0::/job\n"),
            (
                "/sys/fs/cgroup/job/cpu.stat",
                "usage_usec 9\nnr_periods 40\nnr_throttled 3\nthrottled_usec 1500000\n",
            ),
        ]);
        let stops = |text: &str| {
            tree.write("/sys/fs/cgroup/job/cpu.stat", text);
            Groups::of_process(&tree.root(), "7").stops(&tree.root())
        };
        let expected = Some(QuotaStops { times: 3, seconds: 1.5 });
        assert_eq!(stops("nr_throttled 3\nthrottled_usec 1500000\n"), expected);
        assert_eq!(stops("nr_throttled 3\nthrottled_time 1500000000\n"), expected);
        assert_eq!(stops("usage_usec 9\n"), None);
        assert_eq!(stops("nr_throttled -3\nthrottled_usec 99999999999999999999\n"), None);
    }
}
