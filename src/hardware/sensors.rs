//! The processor's clock, temperature and signs of throttling.

use crate::hardware::finding::Finding;
use crate::hardware::processor::frequency_folders;
use crate::hardware::root::SystemRoot;
use crate::units::to_f64;
use serde::{Deserialize, Serialize};

const HWMON_FOLDER: &str = "/sys/class/hwmon";
const THERMAL_FOLDER: &str = "/sys/class/thermal";
const CPU_FOLDER: &str = "/sys/devices/system/cpu";

/// What the firmware of a Raspberry Pi says about its supply and temperature, as a bit field.
const RASPBERRY_PI: &str = "/sys/devices/platform/soc/soc:firmware/get_throttled";

/// A thermometer of the processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thermometer {
    /// Driver and label: `coretemp Package id 0`.
    pub name: String,
    /// The file it is read from.
    pub file: String,
    /// Temperature at the time of probing, °C.
    pub celsius: Finding<f64>,
}

/// Finds the thermometers of the processor; those of disks, boards and batteries are left out.
pub(crate) fn thermometers(root: &SystemRoot) -> Finding<Vec<Thermometer>> {
    let mut files = chip_thermometers(root);
    if files.is_empty() {
        files = zone_thermometers(root);
    }
    let thermometers = files.into_iter().map(|(name, file)| {
        let celsius = read_celsius(root, &file);
        Thermometer { name, file, celsius }
    });
    Finding::from_list(thermometers.collect(), || {
        format!(
            "no processor thermometer in {HWMON_FOLDER} or {THERMAL_FOLDER} (usual in virtual machines; \
             else load the kernel module coretemp or k10temp)"
        )
    })
}

/// Thermometers of processor drivers, as names and files.
fn chip_thermometers(root: &SystemRoot) -> Vec<(String, String)> {
    const DRIVERS: [&str; 7] = [
        "coretemp",
        "k10temp",
        "zenpower",
        "cpu_thermal",
        "cpu-thermal",
        "soc_thermal",
        "via_cputemp",
    ];
    let mut found = Vec::new();
    for chip in root.numbered(HWMON_FOLDER, "hwmon") {
        let folder = format!("{HWMON_FOLDER}/{chip}");
        let Ok(driver) = root.text(format!("{folder}/name")) else { continue };
        if !DRIVERS.contains(&driver.as_str()) {
            continue;
        }
        let inputs = root.names(&folder).into_iter().filter_map(|file| {
            let sensor = file.strip_suffix("_input").filter(|sensor| sensor.starts_with("temp"))?;
            let label = root.text(format!("{folder}/{sensor}_label")).unwrap_or_default();
            Some((label, format!("{folder}/{file}")))
        });
        let inputs: Vec<(String, String)> = inputs.collect();
        // The package is as hot as its hottest core, and Tctl is Tdie plus an offset for the fans.
        let best = ["Package", "Tdie"];
        let is_best = |label: &str| best.iter().any(|start| label.starts_with(start));
        let any_best = inputs.iter().any(|(label, _)| is_best(label));
        let chosen = inputs.into_iter().filter(|(label, _)| !any_best || is_best(label));
        found.extend(
            chosen.map(|(label, file)| (format!("{driver} {label}").trim().to_owned(), file)),
        );
    }
    found
}

/// Thermal zones that are named after the processor, as names and files.
fn zone_thermometers(root: &SystemRoot) -> Vec<(String, String)> {
    let zones = root.numbered(THERMAL_FOLDER, "thermal_zone").into_iter().filter_map(|zone| {
        let kind = root.text(format!("{THERMAL_FOLDER}/{zone}/type")).ok()?;
        let of_processor =
            ["cpu", "soc", "core", "x86_pkg_temp"].iter().any(|word| kind.contains(word));
        of_processor.then(|| (kind, format!("{THERMAL_FOLDER}/{zone}/temp")))
    });
    zones.collect()
}

fn read_celsius(root: &SystemRoot, file: &str) -> Finding<f64> {
    match root.number::<f64>(file).map(|millidegrees| millidegrees / 1e3) {
        Ok(celsius) if (-40.0..=150.0).contains(&celsius) => Finding::Known(celsius),
        Ok(celsius) => {
            Finding::Missing(format!("{file} says {celsius} °C, which no processor has"))
        }
        Err(failure) => Finding::Missing(failure.to_string()),
    }
}

/// One look at the processor's sensors; `None`: it does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SensorReading {
    /// Mean clock of all cores, MHz.
    pub(super) mean_mhz: Option<f64>,
    /// Clock of the fastest core, MHz.
    pub(super) fastest_mhz: Option<f64>,
    /// Highest temperature, °C.
    pub(super) celsius: Option<f64>,
    /// Why the clock is held down, in words.
    pub(super) throttling: Vec<&'static str>,
}

/// The processor's sensors, found once and read again and again.
#[derive(Debug)]
pub(super) struct Sensors {
    root: SystemRoot,
    thermometers: Vec<String>,
    clocks: Vec<String>,
    cooling: Vec<String>,
}

impl Sensors {
    /// Finds the sensors.
    pub(super) fn open(root: &SystemRoot) -> Self {
        let policies = frequency_folders(root).into_iter();
        let clocks = policies.map(|policy| format!("{policy}/scaling_cur_freq"));
        let devices = root.numbered(THERMAL_FOLDER, "cooling_device").into_iter();
        let cooling = devices.map(|device| format!("{THERMAL_FOLDER}/{device}")).filter(|device| {
            root.text(format!("{device}/type")).is_ok_and(|kind| kind.contains("cpufreq"))
        });
        let thermometers = thermometers(root);
        let thermometers = thermometers.known().map(Vec::as_slice).unwrap_or_default();
        let readable =
            thermometers.iter().filter(|thermometer| thermometer.celsius.known().is_some());
        Self {
            root: root.clone(),
            thermometers: readable.map(|thermometer| thermometer.file.clone()).collect(),
            clocks: clocks.filter(|file| root.number::<f64>(file).is_ok()).collect(),
            cooling: cooling.collect(),
        }
    }

    /// Reads all sensors.
    pub(super) fn read(&self) -> SensorReading {
        let clocks = self.clocks.iter().filter_map(|file| self.root.number::<f64>(file).ok());
        let clocks: Vec<f64> =
            clocks.map(|kilohertz| kilohertz / 1e3).filter(|&mhz| mhz > 0.0).collect();
        let count = to_f64(clocks.len() as u64);
        let mean = (!clocks.is_empty()).then(|| clocks.iter().sum::<f64>() / count);
        let temperatures = self
            .thermometers
            .iter()
            .filter_map(|file| read_celsius(&self.root, file).known().copied());
        SensorReading {
            mean_mhz: mean,
            fastest_mhz: clocks.iter().copied().reduce(f64::max),
            celsius: temperatures.reduce(f64::max),
            throttling: self.throttling(),
        }
    }

    fn throttling(&self) -> Vec<&'static str> {
        // Source: Raspberry Pi documentation, `vcgencmd get_throttled`; bits 16 and up are history.
        const SIGNS: [(u32, &str); 4] = [
            (1, "the power supply's voltage is too low"),
            (1 << 1, "the firmware caps the processor's clock"),
            (1 << 2, "the firmware throttles the processor"),
            (1 << 3, "the processor is at its soft temperature limit"),
        ];
        let mut signs = Vec::new();
        let cooled = |device: &String| {
            self.root.number::<i64>(format!("{device}/cur_state")).is_ok_and(|state| state > 0)
        };
        if self.cooling.iter().any(cooled) {
            signs.push("the kernel holds the processor's clock down because it is hot");
        }
        let bits = self.root.text(RASPBERRY_PI).ok();
        let bits =
            bits.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        let set = SIGNS.iter().filter(|(bit, _)| bits.unwrap_or(0) & bit != 0);
        signs.extend(set.map(|(_, words)| *words));
        signs
    }

    /// How often the processor has slowed itself down because it was hot, since the machine
    /// started; `None` where the kernel does not count it.
    pub(super) fn heat_events(&self) -> Option<u64> {
        heat_events(&self.root).known().copied()
    }
}

/// How often the processor has slowed itself down because it was hot, since the machine started.
pub(super) fn heat_events(root: &SystemRoot) -> Finding<u64> {
    let mut cores = 0_u64;
    let mut package = 0_u64;
    let mut counted = false;
    for cpu in root.numbered(CPU_FOLDER, "cpu") {
        let folder = format!("{CPU_FOLDER}/{cpu}/thermal_throttle");
        match root.number::<u64>(format!("{folder}/core_throttle_count")) {
            Ok(count) => cores = cores.saturating_add(count),
            // Where there are no counters, the first processor tells; spare the other 127.
            Err(failure) if failure.is_absent() && !counted => break,
            Err(failure) if failure.is_absent() => continue,
            Err(failure) => return Finding::Missing(failure.to_string()),
        }
        counted = true;
        // The package's count is repeated under each of its processors.
        package = package.max(root.number(format!("{folder}/package_throttle_count")).unwrap_or(0));
    }
    let total = counted.then(|| cores.saturating_add(package));
    Finding::from_option(total, || {
        format!(
            "no {CPU_FOLDER}/cpu*/thermal_throttle: kernels keep these counters for Intel processors"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;

    #[test]
    fn the_package_stands_for_its_cores_and_disks_are_left_out() {
        let tree = Tree::new(&[
            ("/sys/class/hwmon/hwmon0/name", "nvme\n"),
            ("/sys/class/hwmon/hwmon0/temp1_input", "90000\n"),
            ("/sys/class/hwmon/hwmon1/name", "coretemp\n"),
            ("/sys/class/hwmon/hwmon1/temp1_label", "Package id 0\n"),
            ("/sys/class/hwmon/hwmon1/temp1_input", "61000\n"),
            ("/sys/class/hwmon/hwmon1/temp2_label", "Core 0\n"),
            ("/sys/class/hwmon/hwmon1/temp2_input", "58000\n"),
        ]);
        let expected = Thermometer {
            name: "coretemp Package id 0".into(),
            file: "/sys/class/hwmon/hwmon1/temp1_input".into(),
            celsius: Finding::Known(61.0),
        };
        assert_eq!(thermometers(&tree.root()), Finding::Known(vec![expected]));
        assert_eq!(Sensors::open(&tree.root()).read().celsius, Some(61.0));
    }

    #[test]
    fn thermal_zones_serve_where_no_driver_does() {
        let tree = Tree::new(&[
            ("/sys/class/thermal/thermal_zone0/type", "acpitz\n"),
            ("/sys/class/thermal/thermal_zone0/temp", "20000\n"),
            ("/sys/class/thermal/thermal_zone1/type", "cpu-thermal\n"),
            ("/sys/class/thermal/thermal_zone1/temp", "70500\n"),
        ]);
        assert_eq!(Sensors::open(&tree.root()).read().celsius, Some(70.5));
    }

    #[test]
    fn absurd_temperatures_are_refused_with_a_reason() {
        for content in ["", "-274000\n", "9999999\n", "NaN\n", "hot\n"] {
            let tree = Tree::new(&[
                ("/sys/class/hwmon/hwmon0/name", "k10temp\n"),
                ("/sys/class/hwmon/hwmon0/temp1_input", content),
            ]);
            let found = thermometers(&tree.root());
            assert!(found.known().unwrap()[0].celsius.reason().is_some(), "{content}");
            assert_eq!(Sensors::open(&tree.root()).read().celsius, None, "{content}");
        }
        assert!(thermometers(&Tree::new(&[]).root()).reason().unwrap().contains("k10temp"));
    }

    #[test]
    fn clocks_are_averaged_and_the_fastest_is_kept() {
        let tree = Tree::new(&[
            ("/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1000000\n"),
            ("/sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq", "3000000\n"),
            ("/sys/devices/system/cpu/cpufreq/policy2/scaling_cur_freq", "<unknown>\n"),
        ]);
        let sensors = Sensors::open(&tree.root());
        assert_eq!(sensors.read().mean_mhz, Some(2000.0));
        tree.write("/sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq", "-1\n");
        assert_eq!(sensors.read().mean_mhz, Some(1000.0));
        assert_eq!(sensors.read().fastest_mhz, Some(1000.0));
    }

    #[test]
    fn a_hot_or_undersupplied_board_says_so() {
        let tree = Tree::new(&[
            ("/sys/class/thermal/cooling_device0/type", "cpufreq-cpu0\n"),
            ("/sys/class/thermal/cooling_device0/cur_state", "0\n"),
            (RASPBERRY_PI, "0x50000\n"),
        ]);
        let sensors = Sensors::open(&tree.root());
        assert!(sensors.read().throttling.is_empty());
        tree.write("/sys/class/thermal/cooling_device0/cur_state", "2\n");
        tree.write(RASPBERRY_PI, "0x50005\n");
        assert_eq!(sensors.read().throttling.len(), 3);
    }

    #[test]
    fn heat_events_add_cores_and_count_the_package_once() {
        let file = |cpu: u32, name: &str| {
            format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/{name}_throttle_count")
        };
        let tree = Tree::new(&[]);
        assert_eq!(Sensors::open(&tree.root()).heat_events(), None);
        for cpu in 0..2 {
            tree.write(&file(cpu, "core"), "3\n");
            tree.write(&file(cpu, "package"), "5\n");
        }
        let sensors = Sensors::open(&tree.root());
        assert_eq!(sensors.heat_events(), Some(11));
        for garbage in ["-3\n", ""] {
            tree.write(&file(1, "core"), garbage);
            assert_eq!(sensors.heat_events(), None, "{garbage}");
        }
    }
}
