//! The maker: every file that a worker makes is made here, be it a variant in the cache or a file that the user named.
//!
//! What a job needs first, an importance matrix, is found in the cache or made. A file in the cache gets its name only
//! when it is whole; the command line sees to the same of others (`cli/making.rs`).

use super::event::{BenchmarkEvent, Listener, SequenceError};
use super::plan::{Origin, Variant};
use super::reason;
use super::worker_run::{Ending, Limits, run_worker};
use crate::causes::{self, Problem};
use crate::experiment::calibration::CalibrationPlan;
use crate::files::folder_of;
use crate::host::Host;
use crate::model::artifact::{Artifact, ArtifactRef};
use crate::model::cache::{Cache, CacheError, ImportanceKey, Reserved, Scratch, of_bytes};
use crate::model::progress::ProgressSink;
use crate::model::repository::RemoteVariant;
use crate::model::resolve::{self, ResolveOptions};
use crate::quantize::jobs::{CalibrateJob, CalibrationInput, QuantizeJob};
use crate::results::record::Failure;
use crate::worker::protocol::{Event, Job, Made, Phase};
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long to wait before asking again whether another run has made a file.
const TURN: Duration = Duration::from_millis(500);

/// Why there is no file.
#[derive(Debug)]
pub enum NotMade {
    /// It cannot be made.
    Failed(Failure),
    /// The user wants to stop.
    Interrupted,
    /// No file can be made at all.
    Broken(SequenceError),
}

impl From<SequenceError> for NotMade {
    fn from(error: SequenceError) -> Self {
        Self::Broken(error)
    }
}

impl From<CacheError> for NotMade {
    /// An error of the cache that concerns one file fails its trials, even if only because the disk is full: a smaller
    /// one may fit. One that concerns all ends the run.
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Unusable(_) | CacheError::NotWritable(_) => Self::Broken(error.into()),
            CacheError::Busy(_) | CacheError::File(_) => {
                let reason = causes::in_words(&error);
                Self::Failed(Failure { phase: Phase::Quantize, reason })
            }
        }
    }
}

/// A file that was made.
#[derive(Debug)]
pub struct Finished {
    /// What the worker says of it.
    pub made: Option<Made>,
    /// How long the worker took.
    pub seconds: f64,
}

/// A file to quantize.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The job, but for `output` and `calibration`.
    pub job: &'a QuantizeJob,
    /// What a calibrated method looks at.
    pub plan: Option<&'a CalibrationPlan>,
    /// A matrix of the user's; `None`: one is made from the plan's text, or found in the cache.
    pub matrix: Option<&'a Path>,
    /// What makes the file: name and version.
    pub maker: &'a str,
}

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub enum Task<'a> {
    /// What a worker makes without further ado.
    Job(&'a Job),
    /// A quantized file, with an importance matrix that is made first or found in the cache.
    Quantize(Order<'a>, &'a Cache),
}

impl Task<'_> {
    /// Whether the same task goes on where an interrupted one was.
    pub fn is_resumable(&self) -> bool {
        matches!(self, Self::Job(Job::Calibrate(_) | Job::Mix(_)))
    }
}

/// Makes files, one after the other.
pub struct Maker<'a, H> {
    /// Where workers run.
    pub host: &'a mut H,
    /// Limits of each worker.
    pub limits: Limits,
    /// Hears how it goes.
    pub listener: &'a mut dyn Listener,
}

impl<H: Host> Maker<'_, H> {
    /// Makes a file under the name `output`.
    ///
    /// # Errors
    /// There is no file; `output` may then hold part of one.
    pub async fn make(&mut self, task: Task<'_>, output: &Path) -> Result<Finished, NotMade> {
        match task {
            Task::Job(job) => self.work(job, output).await,
            Task::Quantize(order, cache) => self.quantize(order, cache, output).await,
        }
    }

    /// Finds or makes the file of a variant; the second value says whether it was made.
    ///
    /// It is written to a temporary name, which is removed if the worker fails, the user stops, or this process dies.
    ///
    /// # Errors
    /// There is no file.
    pub async fn variant(
        &mut self,
        variant: &Variant,
        cache: &Cache,
        files: &ResolveOptions,
    ) -> Result<(Artifact, bool), NotMade> {
        let (input, template, key, making) = match &variant.origin {
            Origin::Ready(artifact) => return Ok((artifact.clone(), false)),
            Origin::Remote(artifact, remote) => {
                self.fetch(remote, files).await?;
                cache.hold_fetched(remote, &files.hub);
                return Ok((artifact.clone(), false));
            }
            Origin::Make {
                input,
                remote,
                template,
                key,
                file_type,
                allow_requantize,
                expected_bytes,
            } => {
                if let Some(artifact) = cache.variant(key).existing()? {
                    return Ok((artifact, false));
                }
                if let Some(remote) = remote {
                    self.fetch(remote, files).await?;
                    cache.hold_fetched(remote, &files.hub);
                }
                let making = (*file_type, *allow_requantize, *expected_bytes);
                (input, template, key, making)
            }
        };
        let (file_type, allow_requantize, expected_bytes) = making;
        let slot = cache.variant(key);
        let reserve = || match slot.existing()? {
            Some(artifact) => Ok(Reserved::Made(artifact)),
            None => slot.reserve(expected_bytes)?.unless_made(),
        };
        let pending = match self.turn(reserve).await? {
            Reserved::Made(artifact) => return Ok((artifact, false)),
            Reserved::Pending(pending) => pending,
        };
        let job = QuantizeJob {
            input: ArtifactRef::input(&key.source_checksum, template.as_ref().unwrap_or(input), 0),
            output: ArtifactRef::output(pending.path()),
            file_type,
            types: None,
            method: variant.quantization.method,
            threads: None,
            allow_requantize,
            calibration: None,
            generates: template.is_some(),
        };
        let plan = variant.calibration.as_deref();
        let order = Order { job: &job, plan, matrix: None, maker: &key.maker };
        let finished = self.quantize(order, cache, pending.path()).await?;
        let kept = match finished.made {
            Some(Made::Variant(report)) => report.kept,
            _ => Vec::new(),
        };
        Ok((pending.commit(finished.seconds, kept)?, true))
    }

    /// Fetches the files of a variant, as far as they are not there; what came goes on another time.
    async fn fetch(
        &mut self,
        remote: &RemoteVariant,
        files: &ResolveOptions,
    ) -> Result<(), NotMade> {
        let (told, mut progress) = mpsc::unbounded_channel();
        let (sender, mut done) = oneshot::channel();
        let (remote, mut files) = (remote.clone(), files.clone());
        files.progress = ProgressSink::new(move |_, progress| {
            // Nobody listens once the user has stopped it.
            let _ = told.send(progress.clone());
        });
        // On a thread that nobody waits for: a transfer does not hear the user.
        std::thread::spawn(move || sender.send(resolve::fetch(&remote, &files)));
        let mut tell = |event: Event| {
            let told = self.listener.on_event(&BenchmarkEvent::Worker(&event));
            told.map_err(|error| NotMade::Broken(error.into()))
        };
        tell(Event::Phase(Phase::Fetch))?;
        let mut interrupt = self.host.interrupt().clone();
        loop {
            tokio::select! {
                Some(progress) = progress.recv() => {
                    tell(Event::Progress(progress))?;
                }
                () = interrupt.wait() => return Err(NotMade::Interrupted),
                fetched = &mut done => {
                    let broken = |_| Err(Problem::new("the transfer broke off"));
                    return fetched.unwrap_or_else(broken).map_err(|error| {
                        let reason = causes::in_words(&error);
                        NotMade::Failed(Failure { phase: Phase::Fetch, reason })
                    });
                }
            }
        }
    }

    /// Quantizes a model into `output`, after what its method needs is there.
    async fn quantize(
        &mut self,
        order: Order<'_>,
        cache: &Cache,
        output: &Path,
    ) -> Result<Finished, NotMade> {
        let mut job = QuantizeJob { output: ArtifactRef::output(output), ..order.job.clone() };
        // Files of the method's own are there as long as this.
        let _scratch: Option<Scratch>;
        if job.method.is_calibrated() {
            let importance = match (order.matrix, order.plan) {
                (Some(matrix), _) => Some(ArtifactRef::here(matrix)),
                (None, Some(plan)) => Some(self.importance(order, plan, cache).await?),
                // The worker says what is missing.
                (None, None) => None,
            };
            let scratch = cache.scratch("method")?;
            let folder = ArtifactRef::scratch(folder_of(scratch.path()));
            let plan = order.plan.cloned();
            job.calibration =
                importance.map(|importance| CalibrationInput { importance, plan, folder });
            _scratch = Some(scratch);
        }
        self.work(&Job::Quantize(Box::new(job)), output).await
    }

    /// Finds or makes the importance matrix of a model. A calibration that was interrupted goes on where it was.
    async fn importance(
        &mut self,
        order: Order<'_>,
        plan: &CalibrationPlan,
        cache: &Cache,
    ) -> Result<ArtifactRef, NotMade> {
        let slot = cache.importance(&ImportanceKey {
            source_checksum: order.job.input.key.clone(),
            text_checksum: of_bytes(plan.text.as_bytes()),
            context: plan.context,
            chunks: plan.chunks,
            maker: order.maker.to_owned(),
        });
        let output = slot.path();
        let reserve = || match slot.existing() {
            Some(_) => Ok(None),
            None => Ok(slot.reserve()?.unless_made()),
        };
        if let Some(pending) = self.turn(reserve).await? {
            let job = CalibrateJob {
                model: order.job.input.clone(),
                plan: plan.clone(),
                output_weight: false,
                threads: order.job.threads,
                output: ArtifactRef::output(&output),
            };
            self.work(&Job::Calibrate(job), &output).await?;
            pending.commit()?;
        }
        Ok(slot.as_input(&output))
    }

    /// Waits for a place in the cache that another run fills: waiting is cheaper than making it twice.
    async fn turn<T>(&mut self, reserve: impl Fn() -> Result<T, CacheError>) -> Result<T, NotMade> {
        loop {
            match reserve() {
                Err(CacheError::Busy(_)) => self.host.pause(TURN).await,
                reserved => return Ok(reserved?),
            }
            if self.host.is_interrupted() {
                return Err(NotMade::Interrupted);
            }
        }
    }

    /// Has a worker do a job that writes to `output`.
    async fn work(&mut self, job: &Job, output: &Path) -> Result<Finished, NotMade> {
        let started = self.host.now();
        let report = run_worker(self.host, job, self.limits, self.listener).await?;
        match report.ending {
            Ending::Done => {
                let seconds = (self.host.now() - started).as_seconds_f64();
                Ok(Finished { made: report.made, seconds })
            }
            Ending::Interrupted | Ending::Cut(_) => Err(NotMade::Interrupted),
            Ending::Failed(Failure { phase, reason }) => {
                let reason = reason::of_writing(reason, output);
                Err(NotMade::Failed(Failure { phase, reason }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::parameters::Parameters;
    use crate::host::WorkerMessage;
    use crate::orchestrator::scripted::{Fault, ScriptedHost};

    /// Makes `imatrix:Q4_0` twice, then with a matrix of the user's. Returns the jobs, and why the last file was not made.
    fn make(fault: fn(&str) -> Fault) -> (Vec<String>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("cache")).unwrap();
        let (mut host, stage) = ScriptedHost::new(fault);
        let mut listener: Vec<Box<dyn Listener>> = Vec::new();
        let limits = Limits { silence: Duration::from_secs(1), until: None, machine_bytes: None };
        let mut maker = Maker { host: &mut host, limits, listener: &mut listener };
        let plan = CalibrationPlan {
            text: "words".to_owned(),
            source: "words.txt".to_owned(),
            context: 16,
            chunks: None,
            parameters: Parameters::default(),
        };
        let job = QuantizeJob {
            input: ArtifactRef::input("checksum", Path::new("in.gguf"), 0),
            output: ArtifactRef::output(Path::new("out.gguf")),
            file_type: "Q4_0".parse().unwrap(),
            types: None,
            method: "imatrix".parse().unwrap(),
            threads: None,
            allow_requantize: false,
            calibration: None,
            generates: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut last = None;
        for matrix in [None, None, Some(Path::new("own.gguf"))] {
            let order = Order { job: &job, plan: Some(&plan), matrix, maker: "test" };
            let output = folder.path().join("out.gguf");
            let made = runtime.block_on(maker.make(Task::Quantize(order, &cache), &output));
            last = match made {
                Err(NotMade::Failed(failure)) => Some(failure.reason),
                _ => None,
            };
        }
        (stage.jobs(), last)
    }

    #[test]
    fn a_matrix_is_made_once_and_the_users_own_is_taken_as_it_is() {
        let (jobs, last) = make(|_| Fault::None);
        assert_eq!(jobs, ["calibrate", "make Q4_0", "make Q4_0", "make Q4_0"]);
        assert_eq!(last, None);
    }

    #[test]
    fn without_a_matrix_there_is_no_file_and_the_next_one_tries_again() {
        let (jobs, last) = make(|job| match job {
            "calibrate" => Fault::NotStarted,
            _ => Fault::After(1, WorkerMessage::Unreadable("nonsense".to_owned())),
        });
        assert_eq!(jobs, ["calibrate", "calibrate", "make Q4_0"]);
        assert!(last.unwrap().contains("'nonsense'"));
    }
}
