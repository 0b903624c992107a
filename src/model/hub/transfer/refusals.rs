//! Answers of the hub that are refusals, in words.

use super::Remote;
use crate::causes::Problem;
use crate::model::hub::request::{header, wanted_wait};
use crate::model::hub::{HubError, HubFile};
use crate::units::format_seconds;
use ureq::Body;
use ureq::http::{Response, StatusCode};

impl Remote<'_> {
    /// # Errors
    /// The answer is a refusal.
    pub(super) fn check_status(
        &self,
        response: &Response<Body>,
        is_within: bool,
    ) -> Result<(), HubError> {
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        let HubFile { repository, revision, file, .. } = self.file;
        let endpoint = self.endpoint;
        let other = || {
            let (status, what) = (status.as_u16(), self.file);
            format!("the hub at {endpoint} answered {status} for {what}; try again later")
        };
        Err(Problem::new(match status {
            // Where the bytes lie knows neither tokens nor repositories.
            _ if !is_within => other(),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = wanted_wait(response).map_or_else(
                    || "later".to_owned(),
                    |wait| format!("in {}", format_seconds(wait.as_secs_f64())),
                );
                format!(
                    "the hub at {endpoint} answered 429: it is asked too often; try again {wait}"
                )
            }
            StatusCode::UNAUTHORIZED if self.options.token.is_none() => format!(
                "the hub shows {repository} to nobody without a token: it is private or gated, or there is \
                 no such repository; set HF_TOKEN"
            ),
            StatusCode::UNAUTHORIZED => {
                format!("the hub does not accept the token in HF_TOKEN for {repository}")
            }
            StatusCode::FORBIDDEN if self.options.token.is_none() => format!(
                "the hub gives {repository} to nobody without a token: accept its conditions at \
                 {endpoint}/{repository}, and set HF_TOKEN"
            ),
            StatusCode::FORBIDDEN => format!(
                "the owner of HF_TOKEN may not read {repository}; accept its conditions at \
                 {endpoint}/{repository}"
            ),
            StatusCode::NOT_FOUND => match header(response.headers(), "x-error-code") {
                Some("RepoNotFound") => format!(
                    "the hub has no repository {repository}; 'quantbench search {}' finds others",
                    repository.rsplit('/').next().unwrap_or(repository)
                ),
                Some("RevisionNotFound") => {
                    let revision = revision.unwrap_or("main");
                    format!("the hub has no revision '{revision}' of {repository}")
                }
                _ if file.is_empty() => format!(
                    "the hub at {endpoint} knows nothing of {repository}: it does not answer as a hub does; is HF_ENDPOINT \
                     right?"
                ),
                _ => format!(
                    "the hub has no file {file} in {repository}; 'quantbench files {repository}' lists its variants"
                ),
            },
            _ => other(),
        }))
    }
}
