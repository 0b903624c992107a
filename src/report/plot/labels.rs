//! Room for names at points: beside, above or below them, where no other name or point is.

use crate::report::text::{shorten, width};
use plotters::style::text_anchor::HPos;
use std::ops::Range;

/// Columns of a name at a point.
const COLUMNS: usize = 22;

/// Pixels of a drawing that a letter is wide and high.
const LETTER: (i32, i32) = (13, 24);

/// Width of a text as it is shown, estimated from its letters.
pub(super) fn text_width(text: &str, size: i32) -> i32 {
    i32::try_from(width(text)).unwrap_or(i32::MAX / 100).min(1000) * size * 57 / 100
}

/// A name, and the point that it is of.
type Wanted = (String, (i32, i32));

/// Where a name goes.
pub(super) struct Place {
    pub(super) at: (i32, i32),
    pub(super) anchor: HPos,
}

/// Names at points that find their room together. All lengths are pixels of the drawing.
pub(super) struct Labels {
    width: Range<i32>,
    height: Range<i32>,
    points: Vec<(i32, i32)>,
    wanted: Vec<Wanted>,
}

impl Labels {
    pub(super) fn within(width: &Range<i32>, height: &Range<i32>) -> Self {
        Self {
            width: width.clone(),
            height: height.clone(),
            points: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// A point that no name may hide.
    pub(super) fn occupy(&mut self, point: (i32, i32)) {
        self.points.push(point);
    }

    pub(super) fn want(&mut self, name: &str, point: (i32, i32)) {
        self.wanted.push((shorten(name, COLUMNS), point));
    }

    /// Those that found room, the last wanted first: it lies on top.
    pub(super) fn placed(&self) -> Vec<(String, Place)> {
        let mut taken: Vec<[Range<i32>; 2]> = Vec::new();
        let overlaps =
            |one: &Range<i32>, other: &Range<i32>| one.start < other.end && other.start < one.end;
        let mut placed = Vec::new();
        for (name, (x, y)) in self.wanted.iter().rev() {
            let length = i32::try_from(width(name)).unwrap_or(0) * LETTER.0;
            let half = LETTER.1 / 2;
            let candidates = [
                // Above to the right no front runs.
                (HPos::Left, x + 8, y - 20),
                (HPos::Center, *x, y - 24),
                (HPos::Left, x + 14, *y),
                (HPos::Right, x - 14, *y),
                (HPos::Left, x + 10, y + 20),
                (HPos::Center, *x, y + 24),
                (HPos::Right, x - 10, y - 20),
                (HPos::Right, x - 10, y + 20),
            ];
            let found = candidates.into_iter().find_map(|(anchor, at_x, at_y)| {
                let start = match anchor {
                    HPos::Left => at_x,
                    HPos::Right => at_x - length,
                    HPos::Center => at_x - length / 2,
                };
                let room = [start..start + length, at_y - half..at_y + half];
                let is_inside = room[0].start >= self.width.start
                    && room[0].end <= self.width.end
                    && room[1].start >= self.height.start
                    && room[1].end <= self.height.end;
                let hides = self.points.iter().any(|(px, py)| {
                    overlaps(&room[0], &(px - 8..px + 8)) && overlaps(&room[1], &(py - 8..py + 8))
                });
                let collides =
                    taken.iter().any(|it| overlaps(&it[0], &room[0]) && overlaps(&it[1], &room[1]));
                (is_inside && !hides && !collides)
                    .then_some((room, Place { at: (at_x, at_y), anchor }))
            });
            if let Some((room, place)) = found {
                taken.push(room);
                placed.push((name.clone(), place));
            }
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_apart_or_are_left_out() {
        let mut labels = Labels::within(&(0..400), &(0..100));
        for at in 0..40 {
            let point = (100 + at % 3, 50 + at % 2);
            labels.occupy(point);
            labels.want("Q4_K_M", point);
        }
        let placed = labels.placed();
        assert!((2..9).contains(&placed.len()), "{}", placed.len());
        let mut edge = Labels::within(&(0..400), &(0..100));
        edge.want("Q4_K_M", (395, 50));
        assert!(edge.placed()[0].1.at.0 < 395);
    }
}
