//! Where the machine's power comes from: battery or mains.

use crate::hardware::finding::Finding;
use crate::hardware::root::SystemRoot;
use serde::{Deserialize, Serialize};

const SUPPLY_FOLDER: &str = "/sys/class/power_supply";

/// A power supply or battery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerSupply {
    /// The kernel's name: `BAT0`, `AC`.
    pub name: String,
    /// The kernel's word for what it is: `Battery`, `Mains`, `USB`, …
    pub kind: String,
    /// Whether it feeds the machine now; `None` where the kernel does not say.
    pub in_use: Option<bool>,
    /// Charge in percent; batteries only.
    pub charge_percent: Option<u8>,
}

/// Reads the machine's power supplies, those of mice and headsets left out.
pub fn power_supplies(root: &SystemRoot) -> Finding<Vec<PowerSupply>> {
    let names = root.names(SUPPLY_FOLDER).into_iter();
    let supplies = names.filter_map(|name| supply(root, name)).collect();
    Finding::from_list(supplies, || format!("no battery (nothing in {SUPPLY_FOLDER})"))
}

fn supply(root: &SystemRoot, name: String) -> Option<PowerSupply> {
    let file = |file: &str| root.text(format!("{SUPPLY_FOLDER}/{name}/{file}")).ok();
    // `scope` is `Device` for the batteries of peripherals.
    if file("scope").is_some_and(|scope| scope == "Device") {
        return None;
    }
    let kind = file("type")?;
    let in_use = if kind == "Battery" {
        file("status").map(|status| status == "Discharging")
    } else {
        file("online").map(|online| online != "0")
    };
    let charge_percent = file("capacity").and_then(|capacity| capacity.parse().ok());
    Some(PowerSupply {
        kind,
        in_use,
        charge_percent: charge_percent.filter(|&charge| charge <= 100),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;

    #[test]
    fn a_laptop_on_battery_says_so() {
        let tree = Tree::new(&[
            ("/sys/class/power_supply/AC/type", "Mains\n"),
            ("/sys/class/power_supply/AC/online", "0\n"),
            ("/sys/class/power_supply/BAT0/type", "Battery\n"),
            ("/sys/class/power_supply/BAT0/status", "Discharging\n"),
            ("/sys/class/power_supply/BAT0/capacity", "81\n"),
            ("/sys/class/power_supply/mouse/type", "Battery\n"),
            ("/sys/class/power_supply/mouse/scope", "Device\n"),
        ]);
        let supply = |name: &str, kind: &str, in_use, charge_percent| PowerSupply {
            name: name.to_owned(),
            kind: kind.to_owned(),
            in_use: Some(in_use),
            charge_percent,
        };
        let expected =
            vec![supply("AC", "Mains", false, None), supply("BAT0", "Battery", true, Some(81))];
        assert_eq!(power_supplies(&tree.root()), Finding::Known(expected));
    }

    #[test]
    fn an_absurd_charge_is_left_out_and_no_supply_is_a_reason() {
        let tree = Tree::new(&[
            ("/sys/class/power_supply/BAT0/type", "Battery\n"),
            ("/sys/class/power_supply/BAT0/capacity", "-7\n"),
            ("/sys/class/power_supply/BAT1/type", ""),
        ]);
        let supplies = power_supplies(&tree.root());
        assert_eq!(supplies.known().unwrap().len(), 1);
        assert_eq!(supplies.known().unwrap()[0].charge_percent, None);
        assert!(power_supplies(&Tree::new(&[]).root()).reason().unwrap().contains("no battery"));
    }
}
