//! From texts and answers to chunks of tokens, domain by domain.

use super::answers::Answered;
use super::{QualityError, QualityRequest};
use crate::dataset::standard;
use crate::engine::Model;
use crate::workload::measured::{DomainChunks, OF_ANSWERS, text_of};

/// Tokens that are evaluated together, the last of which are scored.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// As the model sees them.
    pub(super) tokens: Vec<i32>,
    /// The first token that is scored; not the first of all.
    pub(super) scored_from: usize,
    /// Where its rows begin among those of all chunks, each of which has room for as many as it may have.
    pub(super) first_row: u64,
    /// Tokens that may be scored: an answer that is not written yet may be that long.
    pub(super) room: usize,
    /// Which answer of the reference it is; `None`: it is of a text.
    pub(super) answer: Option<usize>,
}

impl Chunk {
    /// The second half of tokens of a text, which begin as the model wants it.
    fn of_text(tokens: &[i32], beginning: Option<i32>) -> Self {
        let mut tokens = tokens.to_vec();
        if let (Some(first), Some(beginning)) = (tokens.first_mut(), beginning) {
            *first = beginning;
        }
        let scored_from = tokens.len() / 2 + 1;
        let room = tokens.len() - scored_from;
        Self { tokens, scored_from, first_row: 0, room, answer: None }
    }

    fn of_answer(place: usize, answered: &Answered, room: u32) -> Self {
        let Answered { request, answer, .. } = answered;
        let tokens = [request.as_slice(), answer].concat();
        let (scored_from, room) = (request.len(), room as usize);
        Self { tokens, scored_from, first_row: 0, room, answer: Some(place) }
    }

    /// The tokens that are scored.
    pub(super) fn following(&self) -> &[i32] {
        &self.tokens[self.scored_from..]
    }

    /// What is given, whatever is answered.
    pub(super) fn given(&self) -> &[i32] {
        if self.answer.is_some() { &self.tokens[..self.scored_from] } else { &self.tokens }
    }
}

/// Chunks in the order in which they are evaluated.
pub(super) struct Chunked {
    pub(super) chunks: Vec<Chunk>,
    /// Which chunks are of which domain; none of one text without domains.
    pub(super) domains: Vec<DomainChunks>,
    /// Tokens of the texts, those that fill no chunk left out where there are domains.
    pub(super) text_tokens: usize,
}

impl Chunked {
    /// Domains take turns in proportion to their lengths, so that any number of chunks from the beginning
    /// is of the same mixture, but for the first of each text, which come before the others.
    pub(super) fn new(
        model: &dyn Model,
        request: QualityRequest<'_>,
    ) -> Result<Self, QualityError> {
        let (length, beginning) = (request.context as usize, model.beginning_token());
        let cut = |tokens: &[i32]| -> Vec<Chunk> {
            tokens.chunks_exact(length).map(|tokens| Chunk::of_text(tokens, beginning)).collect()
        };
        let mut parts = Vec::new();
        if request.domains.is_empty() && !request.text.is_empty() {
            let tokens = model.tokenize(request.text, true, false)?;
            if request.answers.is_none() {
                let (chunks, text_tokens) = (cut(&tokens), tokens.len());
                return Ok(Self { chunks, domains: Vec::new(), text_tokens });
            }
            parts.push(("text".to_owned(), cut(&tokens)));
        }
        let mut rest = request.text;
        for domain in request.domains {
            let (text, after) =
                rest.split_at_checked(domain.bytes).ok_or(QualityError::WrongDomains)?;
            rest = after;
            parts.push((domain.name.clone(), cut(&model.tokenize(text, true, false)?)));
        }
        let text_tokens = parts.iter().map(|(_, chunks)| chunks.len() * length).sum();
        if let Some(along) = request.answers {
            for (place, answered) in along.answered.iter().enumerate() {
                let name = format!("{}{OF_ANSWERS}", along.domain_of(answered));
                let chunk = Chunk::of_answer(place, answered, along.plan.max_tokens);
                match parts.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, chunks)) => chunks.push(chunk),
                    None => parts.push((name, vec![chunk])),
                }
            }
        }
        let mut order: Vec<(f64, usize, Chunk)> = Vec::new();
        let mut domains = Vec::new();
        for (domain, (name, chunks)) in parts.into_iter().enumerate() {
            domains.push(DomainChunks { name, chunks: Vec::new() });
            let turns = standard::turns(chunks.len()).zip(chunks);
            order.extend(turns.map(|(turn, chunk)| (turn, domain, chunk)));
        }
        // Stable: domains whose turn it is at the same time keep their order.
        order.sort_by(|one, other| one.0.total_cmp(&other.0));
        let texts: Vec<&str> = domains.iter().map(|it| text_of(&it.name)).collect();
        // Few chunks, too, are of every text.
        let mut begun: Vec<&str> = Vec::new();
        let (first, others): (Vec<_>, Vec<_>) = order.into_iter().partition(|(_, domain, _)| {
            let is_first = !begun.contains(&texts[*domain]);
            begun.extend(Some(texts[*domain]).filter(|_| is_first));
            is_first
        });
        let order: Vec<_> = first.into_iter().chain(others).collect();
        for (at, (_, domain, _)) in (0..).zip(&order) {
            domains[*domain].chunks.push(at);
        }
        let chunks = order.into_iter().map(|(_, _, chunk)| chunk).collect();
        Ok(Self { chunks, domains, text_tokens })
    }

    /// Gives every chunk its rows; returns how many there are.
    pub(super) fn place_rows(&mut self) -> u64 {
        self.chunks.iter_mut().fold(0, |first, chunk| {
            chunk.first_row = first;
            first + chunk.room as u64
        })
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
            answers: None,
            part: None,
        };
        Chunked::new(model.as_ref(), request)
    }

    #[test]
    fn no_chunk_holds_two_domains_and_they_take_turns() {
        let Chunked { chunks: all, domains, text_tokens } =
            chunked(&[("a", 39), ("b", 20)]).unwrap();
        // With the begin mark 40 and 21 tokens: 5 and 2 chunks, the rest of the second is dropped.
        assert_eq!((all.len(), text_tokens), (7, 7 * 8));
        let chunks: Vec<&[u32]> = domains.iter().map(|it| it.chunks.as_slice()).collect();
        assert_eq!(chunks, [&[0, 2, 3, 4, 6][..], &[1, 5]]);
        let last = |chunk: usize| all[chunk].tokens[7];
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
    fn the_first_chunks_are_of_every_text() {
        let all = [("prose", 39), ("code", 79), ("korean answers", 20), ("x.txt", 20)];
        let domains = evaluated(chunked(&all).unwrap().domains, 3);
        let names: Vec<&str> = domains.iter().map(|domain| domain.name.as_str()).collect();
        assert_eq!(names, ["code", "korean answers", "x.txt"]);
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
            answers: None,
            part: None,
        };
        assert!(Chunked::new(model.as_ref(), request).is_ok());
        let domains = [TextDomain { name: "a".to_owned(), bytes: 2 }];
        let request = QualityRequest { domains: &domains, ..request };
        assert!(matches!(Chunked::new(model.as_ref(), request), Err(QualityError::WrongDomains)));
    }
}
