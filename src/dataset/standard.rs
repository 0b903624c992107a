//! The standard texts: what quality is measured on and variants are calibrated on, unless a text is named.
//!
//! Written for this project, in domains; the evaluation set and the calibration set have no passage in
//! common. In a file a line of `%` parts two passages. Every domain has prompts, too, one a line.

/// One kind of text.
#[derive(Debug)]
pub struct Domain {
    /// Its name.
    pub name: &'static str,
    /// Passages to evaluate.
    evaluation: &'static str,
    /// Passages to calibrate on.
    calibration: &'static str,
    /// Prompts, one a line.
    prompts: &'static str,
}

/// The files of these names, one after the other.
macro_rules! texts {
    ($folder:literal, $first:literal $(, $more:literal)*) => {
        concat!(
            include_str!(concat!("standard/", $folder, "/", $first, ".txt"))
            $(, "%\n", include_str!(concat!("standard/", $folder, "/", $more, ".txt")))*
        )
    };
}

/// A domain with the names of its files, where a set has more than one.
macro_rules! domain {
    ($name:literal) => {
        domain!($name, [$name], [$name])
    };
    ($name:literal, [$($evaluation:literal),+], [$($calibration:literal),+]) => {
        Domain {
            name: $name,
            evaluation: texts!("evaluation", $($evaluation),+),
            calibration: texts!("calibration", $($calibration),+),
            prompts: texts!("prompts", $name),
        }
    };
}

/// Every domain.
pub static DOMAINS: [Domain; 15] = [
    domain!("prose"),
    domain!("dialogue"),
    domain!("instructions"),
    domain!("code", ["code-1", "code-2", "code-3"], ["code-1", "code-2"]),
    domain!("data"),
    domain!("mathematics"),
    domain!("german"),
    domain!("french"),
    domain!("spanish"),
    domain!("russian"),
    domain!("chinese"),
    domain!("japanese"),
    domain!("korean"),
    domain!("arabic"),
    domain!("hindi"),
];

impl Domain {
    /// The text to evaluate.
    #[must_use]
    pub fn evaluation(&self) -> String {
        passages(self.evaluation).collect::<Vec<_>>().join("\n\n")
    }

    /// What a user would ask.
    pub fn prompts(&self) -> impl Iterator<Item = &'static str> {
        self.prompts.lines()
    }
}

/// The text to calibrate on. Domains take turns, so that any part from the beginning is of all of them.
#[must_use]
pub fn calibration() -> String {
    let mut all: Vec<(f64, &str)> = Vec::new();
    for domain in &DOMAINS {
        let passages: Vec<&str> = passages(domain.calibration).collect();
        all.extend(turns(passages.len()).zip(passages));
    }
    // Stable: of those whose turn it is at the same time, the first domain's comes first.
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    all.into_iter().map(|(_, passage)| passage).collect::<Vec<_>>().join("\n\n")
}

/// When it is the turn of each of `count` parts of a domain, from 0 to 1: parts of several domains in the order
/// of their turns are mixed in proportion to how many there are.
pub fn turns(count: usize) -> impl Iterator<Item = f64> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    (0..count).map(move |part| (f64::from(part) + 0.5) / f64::from(count))
}

fn passages(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n%\n").map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// Characters that must not stand twice in one order. Code and data repeat longer runs by their nature.
    fn run_length(domain: &str) -> usize {
        if matches!(domain, "code" | "data") { 160 } else { 60 }
    }

    #[test]
    fn no_two_passages_are_alike() {
        let mut seen: HashMap<Vec<char>, &str> = HashMap::new();
        for domain in &DOMAINS {
            let length = run_length(domain.name);
            for passage in passages(domain.evaluation).chain(passages(domain.calibration)) {
                let letters: Vec<char> =
                    passage.chars().filter(|it| it.is_alphanumeric()).collect();
                let mut own: Vec<&[char]> = letters.windows(length).collect();
                own.sort_unstable();
                own.dedup();
                for run in own {
                    let before = seen.insert(run.to_vec(), domain.name);
                    let run: String = run.iter().collect();
                    assert_eq!(before, None, "{}: '{run}'", domain.name);
                }
            }
        }
    }

    #[test]
    fn every_domain_has_enough_of_everything() {
        let mut evaluation = 0;
        for domain in &DOMAINS {
            let name = domain.name;
            let parts =
                passages(domain.evaluation).count().min(passages(domain.calibration).count());
            assert!(parts >= 5, "{name} has {parts} passages");
            let prompts: HashSet<&str> = domain.prompts().collect();
            assert_eq!((prompts.len(), domain.prompts().count()), (8, 8), "{name}");
            assert!(prompts.iter().all(|prompt| prompt.trim().len() > 10), "{name}");
            assert!(
                domain.evaluation().lines().all(|line| line != "%"),
                "{name}: a separator is left"
            );
            evaluation += domain.evaluation().len();
        }
        let calibration = calibration().len();
        // What 60,000 and 40,000 tokens take at the 3.8 bytes that Llama 3's tokenizer has for one here.
        assert!(evaluation > 230_000 && calibration > 152_000, "{evaluation} {calibration} bytes");
    }
}
