//! Sides: what is compared, one run or several of the same, whole or one variant of them.

use crate::causes::Problem;
use crate::results::each_once;
use crate::results::record::{RunRecord, TrialRecord};

/// One run of a side.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// What the user called it.
    pub name: String,
    /// The run.
    pub run: RunRecord,
    /// What is meant of it.
    pub part: Part,
}

/// What is meant of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What it measured, but for what it repeated of an earlier run.
    Own,
    /// What it repeated of an earlier run.
    Repeated,
    /// The variant of this label.
    Variant(String),
}

impl Part {
    /// The variant that is named, if one is.
    pub fn variant(&self) -> Option<&str> {
        match self {
            Self::Variant(variant) => Some(variant),
            Self::Own | Self::Repeated => None,
        }
    }
}

/// One side of a comparison: at least one run; of several, each is one observation.
#[derive(Debug, Clone, PartialEq)]
pub struct Side(pub Vec<Member>);

impl Side {
    /// As the user wrote it.
    pub fn name(&self) -> String {
        self.0.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Whether one variant is meant.
    pub(super) fn names_variant(&self) -> bool {
        self.0.iter().all(|member| member.part.variant().is_some())
    }
}

impl Member {
    /// Whether a trial is of the variant, which is named by its label, its quantization or `model/label`.
    fn is_meant(&self, trial: &TrialRecord) -> bool {
        let variant = match &self.part {
            Part::Own => return trial.repeats.is_none(),
            Part::Repeated => return trial.repeats.is_some(),
            Part::Variant(variant) => variant,
        };
        let label = &trial.label;
        let names = [
            label.clone(),
            trial.quantization.to_string(),
            format!("{}/{label}", trial.model),
            trial.model.clone(),
        ];
        names.iter().any(|name| name.eq_ignore_ascii_case(variant))
    }

    /// The trials that are meant.
    ///
    /// # Errors
    /// There is none.
    pub fn trials(&self) -> Result<Vec<&TrialRecord>, Problem> {
        let trials: Vec<&TrialRecord> =
            self.run.trials.iter().filter(|trial| self.is_meant(trial)).collect();
        if !trials.is_empty() {
            return Ok(trials);
        }
        let Some(variant) = self.part.variant() else {
            return Err(Problem::new(format!("run {} holds no trial", self.run.id)));
        };
        let labels = each_once(self.run.trials.iter().map(|trial| trial.label.clone()));
        Err(Problem::new(format!(
            "run {} has no variant '{variant}'; its variants are {}",
            self.run.id,
            labels.join(", ")
        )))
    }
}
