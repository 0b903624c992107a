//! json
use super::format::{RenderOptions, Report, ReportError};
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
pub(super) struct Json;
impl Report for Json {
    fn render(
        &self,
        run: &RunRecord,
        _: &Summary,
        _: &RenderOptions,
    ) -> Result<Vec<u8>, ReportError> {
        serde_json::to_vec(run).map_err(|source| ReportError::Json { run: run.id.clone(), source })
    }
}
