//! llama.cpp's log: passed to standard error, its last errors kept for error messages.

use llama_cpp_sys_2 as sys;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const KEPT_LINES: usize = 8;

static LAST_ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static LAST_LEVEL_WAS_ERROR: AtomicBool = AtomicBool::new(false);
static IS_PASSED_ON: AtomicBool = AtomicBool::new(true);

/// Receives log lines.
pub type Listener = Box<dyn Fn(&str)>;

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Sends every log line to standard error and remembers errors. Called once per process.
pub(super) fn install() {
    // SAFETY: the callback is a plain function that lives as long as the program and takes no user
    // data.
    unsafe { sys::llama_log_set(Some(receive), std::ptr::null_mut()) };
    // libmtmd has a log of its own.
    #[cfg(feature = "multimodal")]
    // SAFETY: as above.
    unsafe {
        sys::mtmd_helper_log_set(Some(receive), std::ptr::null_mut());
    }
}

/// Calls `listener` with every line that is logged on this thread from now on; `None` ends that.
///
/// llama.cpp's quantization reports its progress nowhere else, and does so on the thread that it was called on.
pub fn listen(listener: Option<Listener>) {
    LISTENER.set(listener);
}

/// Keeps the log from standard error from now on: there, a person reads.
pub(super) fn keep_silent() {
    IS_PASSED_ON.store(false, Ordering::Relaxed);
}

/// The error lines since the last call, joined; a general remark if there were none.
pub(super) fn take_errors() -> String {
    let lines: Vec<String> =
        LAST_ERRORS.lock().map(|mut lines| lines.drain(..).collect()).unwrap_or_default();
    if lines.is_empty() {
        return "it gave no reason".to_owned();
    }
    lines.join("; ")
}

/// Forgets the errors of calls before.
pub(super) fn forget_errors() {
    if let Ok(mut lines) = LAST_ERRORS.lock() {
        lines.clear();
    }
}

/// The lines of a message that say something: rules of '=' frame some.
fn telling(message: &str) -> impl Iterator<Item = &str> {
    message.lines().map(str::trim).filter(|line| line.contains(char::is_alphanumeric))
}

extern "C" fn receive(level: sys::ggml_log_level, text: *const c_char, _user_data: *mut c_void) {
    if text.is_null() {
        return;
    }
    // A panic must not cross into C.
    let _ = std::panic::catch_unwind(|| {
        // SAFETY: llama.cpp hands over a terminated string that lives for the length of the call.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        let is_error = if level == sys::GGML_LOG_LEVEL_CONT {
            LAST_LEVEL_WAS_ERROR.load(Ordering::Relaxed)
        } else {
            level == sys::GGML_LOG_LEVEL_ERROR
        };
        LAST_LEVEL_WAS_ERROR.store(is_error, Ordering::Relaxed);
        let line = text.trim_end();
        if is_error && let Ok(mut lines) = LAST_ERRORS.lock() {
            for words in telling(line) {
                if lines.len() == KEPT_LINES {
                    lines.pop_front();
                }
                lines.push_back(words.to_owned());
            }
        }
        LISTENER.with_borrow(|listener| listener.iter().for_each(|listener| listener(line)));
        if IS_PASSED_ON.load(Ordering::Relaxed) {
            // Nobody reads standard error of a worker whose orchestrator is gone; that is no failure.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{listen, receive, sys, telling};
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn a_thread_hears_what_is_logged_on_it_and_no_other() {
        let say = |text: &std::ffi::CStr| {
            receive(sys::GGML_LOG_LEVEL_INFO, text.as_ptr(), std::ptr::null_mut());
        };
        let heard = Rc::new(RefCell::new(Vec::new()));
        let lines = Rc::clone(&heard);
        listen(Some(Box::new(move |line| lines.borrow_mut().push(line.to_owned()))));
        say(c"own\n");
        let another = std::thread::spawn(move || {
            say(c"another's\n");
            listen(None);
        });
        another.join().unwrap();
        say(c"own again\n");
        listen(None);
        say(c"unheard\n");
        assert_eq!(*heard.borrow(), ["own", "own again"]);
    }

    #[test]
    fn rules_around_an_error_are_no_part_of_it() {
        let framed = "\n\n====\n ERROR: this needs a matrix!\n        - tensor: x\n====\n";
        let lines: Vec<&str> = telling(framed).collect();
        assert_eq!(lines, ["ERROR: this needs a matrix!", "- tensor: x"]);
    }
}
