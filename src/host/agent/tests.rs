//! Both ends of a pipe in one process.

use super::client::AgentHost;
use super::files::Files;
use super::server::serve;
use crate::host::environment::Build;
use crate::host::interrupt::Interrupt;
use crate::host::local::LocalHost;
use crate::host::{Exit, Host as _, Worker as _, WorkerMessage};
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, of_bytes};
use crate::model::engine_name::EngineName;
use crate::worker::protocol::{Event, Job, Phase};
use crate::workload::jobs::PredictJob;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt as _, duplex, split};

const PATIENCE: Duration = Duration::from_secs(20);

/// Serves with this program as the worker, while `client` asks.
async fn with_agent<F: Future<Output = ()>>(
    worker: &str,
    client: impl FnOnce(AgentHost, TempDir) -> F,
) {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(&Cache::at(&folder.path().join("far")).unwrap()).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/workers").join(worker);
    let (interrupt, _raise) = Interrupt::new();
    let local = LocalHost::with_program(program, Build::default(), interrupt.clone());
    let (near, far) = duplex(1 << 10);
    let (input, output) = split(far);
    let served = serve(input, output, local, files);
    let asked = async {
        let (input, output) = split(near);
        let host = AgentHost::connect("board", input, output, interrupt).await.unwrap();
        client(host, folder).await;
    };
    let (served, ()) = tokio::join!(served, asked);
    served.unwrap();
}

fn job(file: &Path, checksum: &str) -> Job {
    let model = ArtifactRef::input(checksum, file, 0);
    let engine = EngineName::default();
    Job::PredictMemory(PredictJob { engine, model, questions: Vec::new() })
}

#[tokio::test]
async fn a_worker_beyond_a_pipe_is_heard_watched_and_ended() {
    with_agent("lingers.sh", async |mut host, folder| {
        let file = folder.path().join("model");
        std::fs::write(&file, b"weights").unwrap();
        let mut worker = host.start(&job(&file, &of_bytes(b"weights"))).await.unwrap();
        let phase = Event::Phase(Phase::Load);
        assert_eq!(worker.next(PATIENCE).await, WorkerMessage::Event(Box::new(phase)));
        assert!(matches!(worker.next(PATIENCE).await, WorkerMessage::Event(_)));
        assert_eq!(worker.next(Duration::from_millis(50)).await, WorkerMessage::Silence);
        let watched = worker.usage().await;
        let phases: Vec<Phase> = watched.phases.into_iter().map(|(phase, _)| phase).collect();
        assert_eq!(phases, [Phase::Start, Phase::Load]);
        // What was seen over time comes from there, too.
        assert!(watched.timeline.worker.rss_mebibytes.iter().flatten().any(|&it| it > 0.0));
        assert_eq!(worker.kill().await.signal, Some(9));
        assert_eq!(worker.kill().await, Exit::default());
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_not_what_its_checksum_says_is_refused() {
    with_agent("lingers.sh", async |mut host, folder| {
        let file = folder.path().join("model");
        std::fs::write(&file, b"other weights").unwrap();
        let error = host.start(&job(&file, &of_bytes(b"weights"))).await.unwrap_err();
        let reason = error.to_string();
        assert!(reason.starts_with("host 'board' refused: "), "{reason}");
        assert!(
            reason.contains(&of_bytes(b"weights")) && reason.contains("the file was changed"),
            "{reason}"
        );
        // The connection is as good as before.
        std::fs::write(&file, b"weights").unwrap();
        host.start(&job(&file, &of_bytes(b"weights"))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_file_without_a_checksum_is_not_sent() {
    with_agent("lingers.sh", async |mut host, _folder| {
        let error = host.start(&job(Path::new("/here"), "/here")).await.unwrap_err();
        assert!(error.to_string().contains("'here' has no checksum and cannot be sent"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn nonsense_from_either_end_is_one_clear_error() {
    let (near, far) = duplex(1 << 10);
    let (input, output) = split(near);
    let (interrupt, _raise) = Interrupt::new();
    let mut hello = crate::worker::hello::Hello::default().line();
    hello.extend_from_slice(b"{\"reply\":17}\n");
    let (_listens, mut says) = split(far);
    says.write_all(&hello).await.unwrap();
    let mut host = AgentHost::connect("board", input, output, interrupt.clone()).await.unwrap();
    let error = host.environment().await.unwrap_err().to_string();
    assert!(
        error.starts_with("the connection to host 'board' is lost: it says what is no message"),
        "{error}"
    );
    // It is not trusted again.
    assert!(host.environment().await.unwrap_err().to_string().contains("no message"));

    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(&Cache::at(folder.path()).unwrap()).unwrap();
    let local = LocalHost::with_program("none".into(), Build::default(), interrupt);
    let mut said = crate::worker::hello::Hello::default().line();
    said.extend_from_slice(b"{\"chunk\":99999999999}\n");
    let error = serve(&said[..], tokio::io::sink(), local, files).await.unwrap_err();
    assert!(error.contains("99999999999 bytes at once"), "{error}");
}
