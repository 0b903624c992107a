//! Lines of a pipe, of bounded length: whoever writes into it may write anything.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt as _, BufReader};

/// Reads lines; what is read is kept when the wait for more is given up.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    limit: usize,
    /// The rest of a line that was too long is being skipped.
    skipping: bool,
}

/// What a pipe yields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Whole(Vec<u8>),
    /// The beginning of a line that is longer than allowed; the rest is skipped.
    TooLong(Vec<u8>),
    /// The pipe was closed.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(pipe: R, limit: usize) -> Self {
        Self { reader: BufReader::new(pipe), line: Vec::new(), limit, skipping: false }
    }

    /// Waits for so many bytes behind the line before; `None`: the pipe was closed before them.
    pub(super) async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).await.ok().map(|_| bytes)
    }

    /// Waits for the next line. Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self) -> Line {
        loop {
            // A pipe that cannot be read has nothing more to say.
            let (used, ended) = match self.reader.fill_buf().await {
                Ok([]) | Err(_) => break,
                Ok(bytes) => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    let taken = end.unwrap_or(bytes.len());
                    if !self.skipping {
                        self.line.extend_from_slice(&bytes[..taken]);
                    }
                    (end.map_or(taken, |end| end + 1), end.is_some())
                }
            };
            self.reader.consume(used);
            if !self.skipping && self.line.len() > self.limit {
                self.line.truncate(self.limit);
                self.skipping = !ended;
                return Line::TooLong(std::mem::take(&mut self.line));
            }
            if ended && std::mem::take(&mut self.skipping) {
                continue;
            }
            if ended {
                return Line::Whole(std::mem::take(&mut self.line));
            }
        }
        self.skipping = false;
        if self.line.is_empty() { Line::End } else { Line::Whole(std::mem::take(&mut self.line)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(text, limit);
        let mut read = Vec::new();
        loop {
            match lines.next().await {
                Line::End => return read,
                line => read.push(line),
            }
        }
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_last_line_without_an_end_is_a_line() {
        assert_eq!(all(b"one\n\ntwo", 10).await, [whole("one"), whole(""), whole("two")]);
    }

    #[tokio::test]
    async fn bytes_lie_between_lines() {
        let mut lines = Lines::new(&b"one\n\n\0\ntwo\n"[..], 10);
        assert_eq!(lines.next().await, whole("one"));
        assert_eq!(lines.bytes(3).await, Some(b"\n\0\n".to_vec()));
        assert_eq!(lines.next().await, whole("two"));
        assert_eq!(lines.bytes(1).await, None);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_next_one_is_read() {
        let long = Line::TooLong(b"aaaa".to_vec());
        assert_eq!(all(b"aaaaaaaaaaaa\nb\n", 4).await, [long, whole("b")]);
        let mut endless = vec![b'x'; 100_000];
        endless.push(b'\n');
        endless.extend_from_slice(b"next\n");
        let lines = all(&endless, 10).await;
        assert_eq!(lines[1..], [whole("next")]);
    }
}
