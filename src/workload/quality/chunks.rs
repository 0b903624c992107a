//! From a text to chunks of tokens, domain by domain.

use super::{QualityError, QualityRequest};
use crate::dataset::standard;
use crate::engine::Model;
use crate::workload::measured::DomainChunks;

/// Whole chunks, one after the other, in the order in which they are evaluated.
pub(super) struct Chunked {
    /// The tokens of all chunks; of a text without domains the rest that fills none, too.
    pub(super) tokens: Vec<i32>,
    /// Which chunks are of which domain.
    pub(super) domains: Vec<DomainChunks>,
}

impl Chunked {
    /// Domains take turns in proportion to their lengths, so that any number of chunks from the beginning
    /// is of the same mixture.
    pub(super) fn new(
        model: &dyn Model,
        request: QualityRequest<'_>,
    ) -> Result<Self, QualityError> {
        if request.domains.is_empty() {
            let tokens = model.tokenize(request.text, true, false)?;
            return Ok(Self { tokens, domains: Vec::new() });
        }
        let length = request.context as usize;
        let (mut rest, mut parts) = (request.text, Vec::new());
        for domain in request.domains {
            let (text, after) =
                rest.split_at_checked(domain.bytes).ok_or(QualityError::WrongDomains)?;
            rest = after;
            parts.push(model.tokenize(text, true, false)?);
        }
        let mut order: Vec<(f64, usize, &[i32])> = Vec::new();
        for (domain, tokens) in parts.iter().enumerate() {
            let chunks = tokens.chunks_exact(length);
            let turns = standard::turns(chunks.len()).zip(chunks);
            order.extend(turns.map(|(turn, chunk)| (turn, domain, chunk)));
        }
        // Stable: domains whose turn it is at the same time keep their order.
        order.sort_by(|one, other| one.0.total_cmp(&other.0));
        let names = request.domains.iter().map(|domain| domain.name.clone());
        let mut domains: Vec<DomainChunks> =
            names.map(|name| DomainChunks { name, chunks: Vec::new() }).collect();
        for (at, (_, domain, _)) in (0..).zip(&order) {
            domains[*domain].chunks.push(at);
        }
        let tokens = order.into_iter().flat_map(|(_, _, chunk)| chunk).copied().collect();
        Ok(Self { tokens, domains })
    }
}

/// The domains of the first `chunks` chunks; those without one are left out.
pub(super) fn evaluated(mut domains: Vec<DomainChunks>, chunks: u32) -> Vec<DomainChunks> {
    for domain in &mut domains {
        domain.chunks.retain(|&chunk| chunk < chunks);
    }
    domains.retain(|domain| !domain.chunks.is_empty());
    domains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::toy::{Parameters, Toy};
    use crate::engine::{Engine as _, LoadExtent};
    use crate::experiment::settings::Settings;
    use crate::experiment::workloads::TextDomain;
    use crate::workload::quality::Reference;

    /// The domains of a text of so many letters each, in chunks of 8.
    fn chunked(domains: &[(&str, usize)]) -> Result<Chunked, QualityError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        std::fs::write(&path, serde_json::to_vec(&Parameters::default()).unwrap()).unwrap();
        let model =
            Toy::default().load(&path, &Settings::default(), LoadExtent::Everything).unwrap();
        let letters = |&(name, count): &(&str, usize)| name[..1].repeat(count);
        let text: String = domains.iter().map(letters).collect();
        let domain = |&(name, bytes): &(&str, usize)| TextDomain { name: name.to_owned(), bytes };
        let domains: Vec<TextDomain> = domains.iter().map(domain).collect();
        let (context, reference) = (8, Reference::None);
        let request = QualityRequest {
            text: &text,
            domains: &domains,
            context,
            chunks: None,
            reference,
            precision: None,
            part: None,
        };
        Chunked::new(model.as_ref(), request)
    }

    #[test]
    fn no_chunk_holds_two_domains_and_they_take_turns() {
        let Chunked { tokens, domains } = chunked(&[("a", 39), ("b", 20)]).unwrap();
        // With the begin mark 40 and 21 tokens: 5 and 2 chunks, the rest of the second is dropped.
        assert_eq!(tokens.len(), 7 * 8);
        let chunks: Vec<&[u32]> = domains.iter().map(|it| it.chunks.as_slice()).collect();
        assert_eq!(chunks, [&[0, 2, 3, 4, 6][..], &[1, 5]]);
        let last = |chunk: usize| tokens[chunk * 8 + 7];
        assert!([0, 2, 3, 4, 6].iter().all(|&chunk| last(chunk) == last(0)));
        assert!(last(1) == last(5) && last(1) != last(0));
    }

    #[test]
    fn what_was_not_evaluated_is_of_no_domain() {
        let domains = chunked(&[("a", 39), ("b", 20), ("c", 3)]).unwrap().domains;
        let first = evaluated(domains, 5);
        let names: Vec<&str> = first.iter().map(|domain| domain.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((first[0].chunks.len(), first[1].chunks.as_slice()), (4, &[1][..]));
    }

    #[test]
    fn lengths_that_do_not_fit_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        std::fs::write(&path, serde_json::to_vec(&Parameters::default()).unwrap()).unwrap();
        let model =
            Toy::default().load(&path, &Settings::default(), LoadExtent::Everything).unwrap();
        let domains = [TextDomain { name: "a".to_owned(), bytes: 3 }];
        let request = QualityRequest {
            text: "aé",
            domains: &domains[..1],
            context: 8,
            chunks: None,
            reference: Reference::None,
            precision: None,
            part: None,
        };
        assert!(Chunked::new(model.as_ref(), request).is_ok());
        let domains = [TextDomain { name: "a".to_owned(), bytes: 2 }];
        let request = QualityRequest { domains: &domains, ..request };
        assert!(matches!(Chunked::new(model.as_ref(), request), Err(QualityError::WrongDomains)));
    }
}
