//! Interrupts: the user's request to stop, from Ctrl-C, SIGTERM or SIGHUP.
//!
//! The signals are waited for on a thread of their own, so that they are heard even while the
//! program computes a checksum or downloads a file.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Exit code of a program that the user stopped.
pub const INTERRUPTED_EXIT_CODE: u8 = 130;

/// What the signals of this process raise, once somebody listens.
static SIGNALS: Mutex<Option<Raise>> = Mutex::new(None);

/// Whether the user has stopped this program.
pub fn was_raised() -> bool {
    let signals = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    signals.as_ref().is_some_and(|Raise(sender)| *sender.borrow())
}

/// Tells whether the user wants to stop, and waits for it.
#[derive(Debug, Clone)]
pub struct Interrupt {
    raised: watch::Receiver<bool>,
}

/// Raises an [`Interrupt`]: what the signals do, and a test.
#[derive(Debug, Clone)]
pub struct Raise(watch::Sender<bool>);

impl Raise {
    /// The user wants to stop.
    pub fn raise(&self) {
        self.0.send_replace(true);
    }
}

impl Interrupt {
    /// An interrupt with what raises it.
    pub fn new() -> (Self, Raise) {
        let (sender, raised) = watch::channel(false);
        (Self { raised }, Raise(sender))
    }

    /// Listens to Ctrl-C, SIGTERM and SIGHUP. The first asks the program to stop, the second ends it at
    /// once; so does the first where nobody is left who listens.
    ///
    /// # Errors
    /// The system gave no thread or no signal handler.
    pub fn listen() -> io::Result<Self> {
        let mut signals = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        let Raise(sender) = match &*signals {
            Some(heard) => heard,
            None => signals.insert(Self::hear()?),
        };
        Ok(Self { raised: sender.subscribe() })
    }

    /// What the signals raise.
    fn hear() -> io::Result<Raise> {
        let (_, raise) = Self::new();
        let raised = raise.clone();
        // The handlers are in place before this function returns.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _context = runtime.enter();
            // The terminal hangs up when its connection is closed.
            [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ]
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                any_of(&mut signals).await;
                raise.raise();
                if raise.0.receiver_count() > 0 {
                    any_of(&mut signals).await;
                }
                std::process::exit(i32::from(INTERRUPTED_EXIT_CODE));
            });
        })?;
        Ok(raised)
    }

    /// Whether the user wants to stop.
    pub fn is_raised(&self) -> bool {
        *self.raised.borrow()
    }

    /// Waits until the user wants to stop; for ever, if nobody can say so any more.
    pub async fn wait(&mut self) {
        if self.raised.wait_for(|raised| *raised).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for one of them.
async fn any_of([interrupt, terminate, hang_up]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}
