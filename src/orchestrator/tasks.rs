//! Task jobs: the questions of an experiment's tasks, where workers can read them.

use super::quality::QualityError;
use crate::experiment::resolved::Experiment;
use crate::model::cache::{Cache, Scratch};
use crate::worker::protocol::TaskJob;
use std::fs;

/// The jobs of all tasks; their files are deleted with it.
#[derive(Debug)]
pub struct TaskShelf {
    jobs: Vec<TaskJob>,
    _files: Vec<Scratch>,
}

impl TaskShelf {
    /// Writes the questions of every task; those of a task in several formats once.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn new(cache: &Cache, experiment: &Experiment) -> Result<Self, QualityError> {
        let mut files: Vec<(&str, Scratch)> = Vec::new();
        let mut jobs = Vec::new();
        for task in &experiment.workloads.tasks {
            let written = files.iter().find(|(checksum, _)| *checksum == task.checksum);
            let path = if let Some((_, file)) = written {
                file.path().to_owned()
            } else {
                let file = cache.scratch("questions")?;
                let path = file.path().to_owned();
                // Plain data with string keys always serializes.
                let json = serde_json::to_vec(&*task.questions).unwrap_or_default();
                fs::write(&path, json)
                    .map_err(|source| QualityError::Write { path: path.clone(), source })?;
                files.push((&task.checksum, file));
                path
            };
            jobs.push(TaskJob {
                name: task.name,
                questions: path,
                answering: task.answering.clone(),
                metrics: task.metrics.clone(),
                format: task.format,
                separator: task.separator.clone(),
            });
        }
        Ok(Self { jobs, _files: files.into_iter().map(|(_, file)| file).collect() })
    }

    /// The jobs, in the order of the experiment.
    #[must_use]
    pub fn jobs(&self) -> &[TaskJob] {
        &self.jobs
    }
}
