//! Gates: what may not get worse by more than so much, such as `tg128 -5%`, and whether a comparison shows that it did.

use super::answers::AnswersChange;
use super::{ChangeUnit, Comparison, FigureChange, PairChange, Verdict};
use crate::causes::Problem;
use crate::model::text::nearest;
use crate::results::metric::{Better, Metric};
use crate::statistics::estimate::Interval;
use std::str::FromStr;

/// Answers to tasks that were right and are wrong, or the other way round.
const FLIPS: &str = "flips";

/// Answers to the prompts of latency that are not the same.
const ANSWERS: &str = "answers";

/// Short names of figures, as requirements have them where they do.
const SHORT: [(&str, &str); 13] = [
    ("kld", "kld_nats"),
    ("ppl", "perplexity"),
    ("ttft", "ttft_p90_seconds"),
    ("ttft p50", "ttft_p50_seconds"),
    ("ttft p90", "ttft_p90_seconds"),
    ("itl", "itl_p50_seconds"),
    ("itl p50", "itl_p50_seconds"),
    ("itl p90", "itl_p90_seconds"),
    ("memory", "peak_rss_bytes"),
    ("vram", "device_bytes"),
    ("file", "file_bytes"),
    ("energy", "joules_per_token"),
    ("same top", "top_token_agreement"),
];

/// A bound on a change for the worse.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// As the user wrote it.
    pub text: String,
    name: String,
    /// `Some(true)`: a rise; `None`: whichever is worse.
    rises: Option<bool>,
    /// A fraction of the base's value; points of 100 for figures that are a part of something.
    limit: f64,
}

/// What came of a gate in one pair of trials.
#[derive(Debug, Clone, PartialEq)]
pub struct GateResult {
    /// The gate, as the user wrote it.
    pub gate: String,
    /// The trial, as it is called.
    pub trial: String,
    /// The figure.
    pub figure: String,
    /// What came of it.
    pub outcome: GateOutcome,
}

/// Whether a gate holds.
#[derive(Debug, Clone, PartialEq)]
pub enum GateOutcome {
    /// The change is not shown to be larger than the limit.
    Held {
        /// The change with its interval, each in per cent or points.
        change: f64,
        /// The joint interval.
        interval: Interval,
        /// Whether it is in per cent or points.
        unit: ChangeUnit,
        /// Whether the interval leaves it open that the change is larger than the limit.
        open: bool,
    },
    /// It is shown to be larger.
    Tripped {
        /// The change, in per cent or points.
        change: f64,
        /// The joint interval.
        interval: Interval,
        /// Whether it is in per cent or points.
        unit: ChangeUnit,
    },
    /// It cannot be said, which counts as tripped: a gate that says nothing guards nothing.
    NotJudged {
        /// Why.
        why: String,
    },
}

impl GateResult {
    /// Whether the command fails for it.
    pub fn is_tripped(&self) -> bool {
        !matches!(self.outcome, GateOutcome::Held { .. })
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write a figure and a change for the worse in per cent, such as 'tg128 -5%', 'kld +10%' or 'flips 1%'";
        let whole = text.trim();
        let number =
            whole.strip_suffix('%').ok_or_else(|| format!("it ends without '%'; {FORM}"))?;
        let number = number.trim_end();
        let begin = number.rfind(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (before, digits) = number.split_at(
            begin.map_or(0, |at| at + number[at..].chars().next().map_or(0, char::len_utf8)),
        );
        let limit: f64 =
            digits.parse().map_err(|_| format!("it has no number before '%'; {FORM}"))?;
        let (rises, name) = match before.char_indices().next_back() {
            Some((at, '+')) => (Some(true), &before[..at]),
            Some((at, '-' | '−' | '–')) => (Some(false), &before[..at]),
            Some((_, last)) if !last.is_whitespace() => {
                return Err(format!("there is no space before its number; {FORM}"));
            }
            _ => (None, before),
        };
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        if name.is_empty() {
            return Err(format!("it names no figure; {FORM}"));
        }
        if [FLIPS, ANSWERS].contains(&name.as_str()) && rises == Some(false) {
            return Err(format!(
                "answers that changed are never fewer than none; write '{name} 1%'"
            ));
        }
        Ok(Self { text: whole.to_owned(), name, rises, limit: limit / 100.0 })
    }
}

impl Gate {
    /// Whether it is on this figure.
    pub fn names(&self, metric: Metric) -> bool {
        let own = metric.name();
        let short = SHORT.iter().find(|(short, _)| *short == self.name);
        let label = metric.label().to_lowercase();
        let main = match metric {
            Metric::Task(column) if column.is_main => Some(column.task.to_string().to_lowercase()),
            _ => None,
        };
        short.is_some_and(|(_, name)| *name == own)
            || self.name == own
            || self.name == label
            || self.name.replace(' ', "") == label.replace(' ', "")
            || Some(&self.name) == main.as_ref()
    }

    /// What comes of it, for every pair of trials that has the figure.
    ///
    /// # Errors
    /// No trial has such a figure, or the gate would trip on what is better.
    pub fn check(&self, comparison: &Comparison) -> Result<Vec<GateResult>, Problem> {
        let named = |pair: &PairChange, figure: String, outcome| GateResult {
            gate: self.text.clone(),
            trial: pair.name(),
            figure,
            outcome,
        };
        if [FLIPS, ANSWERS].contains(&self.name.as_str()) {
            return self.check_answers(comparison, named);
        }
        let mut results = Vec::new();
        for (pair, figure) in comparison.figures().filter(|(_, figure)| self.names(figure.metric)) {
            self.fits(figure.metric)?;
            results.push(named(pair, figure.metric.label(), self.on_figure(figure)));
        }
        if results.is_empty() { Err(self.unknown(comparison)) } else { Ok(results) }
    }

    fn check_answers(
        &self,
        comparison: &Comparison,
        named: impl Fn(&PairChange, String, GateOutcome) -> GateResult,
    ) -> Result<Vec<GateResult>, Problem> {
        let of_prompts = self.name == ANSWERS;
        let mut results = Vec::new();
        for pair in &comparison.pairs {
            let answers = pair.answers.iter().filter(|it| it.is_of_prompts() == of_prompts);
            let own =
                answers.map(|it| named(pair, format!("answers of {}", it.of), self.on_answers(it)));
            let own: Vec<GateResult> = own.collect();
            if let (true, Some(why)) = (own.is_empty(), pair.failure.clone()) {
                results.push(named(pair, self.name.clone(), GateOutcome::NotJudged { why }));
            }
            results.extend(own);
        }
        if results.is_empty() {
            let needed = if of_prompts {
                "latency"
            } else {
                "a task ('answers 1%' is on the prompts of latency)"
            };
            return Err(Problem::new(format!(
                "the gate '{}' is on answers, and no trial has them on both sides: measure {needed}",
                self.text
            )));
        }
        Ok(results)
    }

    /// A gate that trips on what is better is a slip of the pen.
    fn fits(&self, metric: Metric) -> Result<(), Problem> {
        let worse_rises = metric.descriptor().better == Some(Better::Lower);
        if self.rises.is_none_or(|rises| rises == worse_rises) {
            return Ok(());
        }
        let (better, sign) = if worse_rises { ("less", '+') } else { ("more", '-') };
        Err(Problem::new(format!(
            "the gate '{}' would fail what is good: {better} of {} is better; write '{} {sign}{}%'",
            self.text,
            metric.label(),
            self.name,
            self.limit * 100.0
        )))
    }

    fn on_figure(&self, figure: &FigureChange) -> GateOutcome {
        let Some(change) = figure.change.filter(|_| figure.verdict != Verdict::Incomparable) else {
            return GateOutcome::NotJudged { why: figure.why.clone().unwrap_or_default() };
        };
        let percent = match change.unit {
            ChangeUnit::Relative => 100.0,
            ChangeUnit::Points => 1.0,
            ChangeUnit::Absolute => {
                let why = "its change is in no per cent".to_owned();
                return GateOutcome::NotJudged { why };
            }
        };
        let worse_rises = figure.metric.descriptor().better == Some(Better::Lower);
        let Interval { low, high } = change.interval;
        let limit = self.limit * 100.0;
        let (near, far) = if worse_rises { (low, high) } else { (-high, -low) };
        let interval = Interval { low: low * percent, high: high * percent };
        let (unit, change) = (change.unit, change.value * percent);
        if near * percent > limit {
            GateOutcome::Tripped { change, interval, unit }
        } else {
            GateOutcome::Held { change, interval, unit, open: far * percent > limit }
        }
    }

    fn on_answers(&self, answers: &AnswersChange) -> GateOutcome {
        let Some(Interval { low, high }) = answers.flipped.interval else {
            return GateOutcome::NotJudged { why: "nothing was asked".to_owned() };
        };
        let interval = Interval { low: low * 100.0, high: high * 100.0 };
        let change = answers.flipped.value * 100.0;
        let unit = ChangeUnit::Relative;
        if low > self.limit {
            GateOutcome::Tripped { change, interval, unit }
        } else {
            GateOutcome::Held { change, interval, unit, open: high > self.limit }
        }
    }

    fn unknown(&self, comparison: &Comparison) -> Problem {
        let mut names: Vec<String> = Vec::new();
        for (_, figure) in comparison.figures() {
            let label = match figure.metric {
                Metric::Speed(test) => test.to_string(),
                metric => metric.label(),
            };
            if !names.contains(&label) && figure.base.is_some() && figure.new.is_some() {
                names.push(label);
            }
        }
        names.extend([FLIPS, ANSWERS].map(str::to_owned));
        let candidates = names.iter().map(String::as_str).chain(SHORT.map(|(short, _)| short));
        let near = nearest(&self.name, candidates);
        let meant = match near {
            Some(near) if near.eq_ignore_ascii_case(&self.name) => {
                "a reference has no distance from itself; ".to_owned()
            }
            Some(near) => format!("did you mean '{near}'? "),
            None => String::new(),
        };
        Problem::new(format!(
            "the gate '{}' is on '{}', which was not measured on both sides; {}figures here are {}",
            self.text,
            self.name,
            meant,
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(text: &str) -> Result<Gate, String> {
        text.parse()
    }

    #[test]
    fn a_gate_is_a_figure_and_a_change_for_the_worse() {
        let parsed = gate(" TG128  -5 % ").unwrap();
        assert_eq!((parsed.name.as_str(), parsed.rises), ("tg128", Some(false)));
        assert!((parsed.limit - 0.05).abs() < 1e-12);
        let parsed = gate("TTFT p50 +2.5%").unwrap();
        assert!(parsed.names(Metric::TtftMedianSeconds) && !parsed.names(Metric::Ttft90Seconds));
        assert_eq!(gate("flips 1%").unwrap().rises, None);
        let depth = gate("tg128@d512 −3%").unwrap();
        assert!(depth.names(Metric::Speed("tg128@d512".parse().unwrap())));
        assert!(gate("kld 10%").unwrap().names(Metric::Kld));
        assert!(gate("kld_nats +10%").unwrap().names(Metric::Kld));
    }

    #[test]
    fn what_is_no_gate_is_told() {
        for (text, told) in [
            ("", "ends without '%'"),
            ("tg128 -5", "ends without '%'"),
            ("tg128 %", "no space before its number"),
            ("kld +%", "no number"),
            ("tg128 -5.5.5%", "no number"),
            ("-5%", "names no figure"),
            ("flips -1%", "never fewer than none"),
            ("ü%", "no number"),
        ] {
            let error = gate(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
