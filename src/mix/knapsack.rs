//! The multiple-choice knapsack problem: one alternative of every class, at least cost within a capacity.
//!
//! Solved by dynamic programming over lists of undominated states, pruned by the bound of the linear relaxation
//! (Dudziński and Walukiewicz 1987; Pisinger 1995 for the relaxation's greedy solution). Exact unless a list exceeds its
//! limit; then the states with the worst bounds are dropped, and the lowest of these bounds limits the distance from the
//! optimum.

/// An alternative of a class. Infinite ones cannot be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Item {
    pub(super) cost: f64,
    pub(super) weight: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Solution {
    /// Index of each class's alternative.
    pub(super) chosen: Vec<usize>,
    pub(super) cost: f64,
    pub(super) weight: f64,
    /// Of every choice within the capacity.
    pub(super) lower_bound: f64,
}

impl Solution {
    /// Upper bound of the cost above the optimum; 0: this is the optimum.
    pub(super) fn gap(&self) -> f64 {
        (self.cost - self.lower_bound).max(0.0)
    }
}

/// States kept from one class to the next.
const MOST_STATES: usize = 100_000;

/// The cheapest choice within `capacity`; `None` if there is none.
pub(super) fn solve(classes: &[Vec<Item>], capacity: f64) -> Option<Solution> {
    solve_with(classes, capacity, MOST_STATES)
}

fn solve_with(classes: &[Vec<Item>], capacity: f64, most_states: usize) -> Option<Solution> {
    let classes: Vec<Class> =
        classes.iter().map(|class| Class::new(class)).collect::<Option<_>>()?;
    // Classes with the widest range of weights first; those with a narrow one fill the rest.
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by(|&one, &other| classes[other].span().total_cmp(&classes[one].span()));
    let relaxations: Vec<Relaxation> =
        (0..=order.len()).map(|from| Relaxation::new(&classes, &order[from..])).collect();
    let incumbent = relaxations[0].complete(&classes, capacity)?;
    let mut best = total(&classes, &incumbent);
    let mut best_chosen = incumbent;
    let mut dropped = f64::INFINITY;
    let mut trail: Vec<Step> = Vec::new();
    let mut states =
        vec![State { weight: 0.0, cost: 0.0, bound: relaxations[0].bound(capacity), step: None }];
    for (depth, &class) in order.iter().enumerate() {
        let rest = &relaxations[depth + 1];
        let mut next: Vec<(State, usize)> = Vec::new();
        for state in &states {
            for (place, alternative) in classes[class].efficient.iter().enumerate() {
                let weight = state.weight + alternative.weight;
                let cost = state.cost + alternative.cost;
                let bound = cost + rest.bound(capacity - weight);
                // An infinite bound, of a state that is too heavy to complete, fails this.
                if bound < best.cost {
                    next.push((State { weight, cost, bound, step: state.step }, place));
                }
            }
        }
        remove_dominated(&mut next, |(state, _)| Item { cost: state.cost, weight: state.weight });
        if next.len() > most_states {
            next.sort_by(|one, other| one.0.bound.total_cmp(&other.0.bound));
            dropped =
                next[most_states..].iter().map(|(state, _)| state.bound).fold(dropped, f64::min);
            next.truncate(most_states);
        }
        states = next
            .into_iter()
            .map(|(state, place)| {
                trail.push(Step { before: state.step, class, place });
                State { step: Some(trail.len() - 1), ..state }
            })
            .collect();
        // The state with the best bound, completed greedily, may be better than the best so far.
        let promising = states.iter().min_by(|one, other| one.bound.total_cmp(&other.bound));
        let Some(promising) = promising else { break };
        if let Some(mut chosen) = rest.complete(&classes, capacity - promising.weight) {
            let mut at = promising.step;
            while let Some(step) = at.map(|at| trail[at]) {
                chosen[step.class] = step.place;
                at = step.before;
            }
            let found = total(&classes, &chosen);
            if found.cost < best.cost && found.weight <= capacity {
                best = found;
                best_chosen = chosen;
            }
        }
    }
    Some(Solution {
        chosen: best_chosen
            .iter()
            .zip(&classes)
            .map(|(&place, class)| class.original[place])
            .collect(),
        cost: best.cost,
        weight: best.weight,
        lower_bound: dropped.min(best.cost),
    })
}

/// A class without its dominated alternatives, from light and expensive to heavy and cheap.
struct Class {
    efficient: Vec<Item>,
    /// Index of each in the class.
    original: Vec<usize>,
}

impl Class {
    fn new(alternatives: &[Item]) -> Option<Self> {
        let is_finite = |place: &usize| {
            alternatives[*place].cost.is_finite() && alternatives[*place].weight.is_finite()
        };
        let mut order: Vec<usize> = (0..alternatives.len()).filter(is_finite).collect();
        remove_dominated(&mut order, |&place| alternatives[place]);
        let efficient: Vec<_> = order.iter().map(|&place| alternatives[place]).collect();
        (!efficient.is_empty()).then_some(Self { efficient, original: order })
    }

    fn span(&self) -> f64 {
        match (self.efficient.first(), self.efficient.last()) {
            (Some(lightest), Some(heaviest)) => heaviest.weight - lightest.weight,
            _ => 0.0,
        }
    }

    /// Indices on the lower convex hull, the lightest first.
    fn hull(&self) -> Vec<usize> {
        let mut hull: Vec<usize> = Vec::new();
        for place in 0..self.efficient.len() {
            while let [.., before, last] = hull[..] {
                let ahead = self.slope(last, place);
                if self.slope(before, last) < ahead {
                    break;
                }
                hull.pop();
            }
            hull.push(place);
        }
        hull
    }

    /// Change of cost per weight to a heavier alternative; negative.
    fn slope(&self, from: usize, to: usize) -> f64 {
        let (from, to) = (self.efficient[from], self.efficient[to]);
        (to.cost - from.cost) / (to.weight - from.weight)
    }
}

/// One step along the hull of a class.
#[derive(Clone, Copy)]
struct HullStep {
    class: usize,
    to: usize,
    weight: f64,
    cost: f64,
}

/// The linear relaxation over some of the classes: its least cost is a piecewise linear function of the capacity and a
/// lower bound for every choice.
struct Relaxation {
    /// Steps from the lightest alternatives, the largest saving per weight first.
    steps: Vec<HullStep>,
    /// Weight and cost after the first `i` steps.
    taken: Vec<(f64, f64)>,
}

impl Relaxation {
    fn new(classes: &[Class], members: &[usize]) -> Self {
        let mut base = (0.0, 0.0);
        let mut steps: Vec<(f64, HullStep)> = Vec::new();
        for &member in members {
            let class = &classes[member];
            base.0 += class.efficient[0].weight;
            base.1 += class.efficient[0].cost;
            for pair in class.hull().windows(2) {
                let (from, to) = (class.efficient[pair[0]], class.efficient[pair[1]]);
                let (weight, cost) = (to.weight - from.weight, to.cost - from.cost);
                let step = HullStep { class: member, to: pair[1], weight, cost };
                steps.push((class.slope(pair[0], pair[1]), step));
            }
        }
        // Stable: steps of one class stay in their order, as slopes rise along a hull.
        steps.sort_by(|one, other| one.0.total_cmp(&other.0));
        let steps: Vec<HullStep> = steps.into_iter().map(|(_, step)| step).collect();
        let mut taken = vec![base];
        for step in &steps {
            let (weight, cost) = taken[taken.len() - 1];
            taken.push((weight + step.weight, cost + step.cost));
        }
        Self { steps, taken }
    }

    /// The least cost within `capacity`; infinite if nothing fits.
    fn bound(&self, capacity: f64) -> f64 {
        if capacity < self.taken[0].0 {
            return f64::INFINITY;
        }
        let whole = self.taken.partition_point(|&(weight, _)| weight <= capacity) - 1;
        let (weight, cost) = self.taken[whole];
        match self.steps.get(whole) {
            Some(step) => cost + step.cost * ((capacity - weight) / step.weight).clamp(0.0, 1.0),
            None => cost,
        }
    }

    /// A greedy choice within `capacity`, an index for every class; 0 for classes that are not in the relaxation.
    fn complete(&self, classes: &[Class], capacity: f64) -> Option<Vec<usize>> {
        let mut left = capacity - self.taken[0].0;
        if left < 0.0 {
            return None;
        }
        let mut chosen = vec![0; classes.len()];
        let mut stuck = vec![false; classes.len()];
        for step in &self.steps {
            if stuck[step.class] || step.weight > left {
                stuck[step.class] = true;
                continue;
            }
            left -= step.weight;
            chosen[step.class] = step.to;
        }
        Some(chosen)
    }
}

/// Choices for the first classes.
#[derive(Clone, Copy)]
struct State {
    weight: f64,
    cost: f64,
    /// Lower bound of the cost of every completion.
    bound: f64,
    /// The last choice, in the trail.
    step: Option<usize>,
}

#[derive(Clone, Copy)]
struct Step {
    before: Option<usize>,
    class: usize,
    place: usize,
}

/// Sorts by weight and removes what is no cheaper than something lighter.
fn remove_dominated<T>(items: &mut Vec<T>, alternative: impl Fn(&T) -> Item) {
    items.sort_by(|one, other| {
        let (one, other) = (alternative(one), alternative(other));
        one.weight.total_cmp(&other.weight).then(one.cost.total_cmp(&other.cost))
    });
    let mut cheapest = f64::INFINITY;
    items.retain(|item| {
        let cost = alternative(item).cost;
        let is_cheaper = cost < cheapest;
        cheapest = cheapest.min(cost);
        is_cheaper
    });
}

fn total(classes: &[Class], chosen: &[usize]) -> Item {
    let start = Item { cost: 0.0, weight: 0.0 };
    classes.iter().zip(chosen).fold(start, |sum, (class, &place)| {
        let alternative = class.efficient[place];
        Item { cost: sum.cost + alternative.cost, weight: sum.weight + alternative.weight }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The cheapest choice by trying all of them.
    fn by_trying(classes: &[Vec<Item>], capacity: f64) -> Option<f64> {
        let mut states = vec![(0.0, 0.0)];
        for class in classes {
            states = states
                .iter()
                .flat_map(|&(weight, cost)| {
                    class.iter().map(move |next| (weight + next.weight, cost + next.cost))
                })
                .collect();
        }
        states
            .into_iter()
            .filter(|&(weight, _)| weight <= capacity)
            .map(|(_, cost)| cost)
            .reduce(f64::min)
    }

    fn class() -> impl Strategy<Value = Vec<Item>> {
        prop::collection::vec((0_u32..60, -40_i32..200), 1..5).prop_map(|alternatives| {
            alternatives
                .into_iter()
                .map(|(weight, cost)| Item { cost: cost.into(), weight: weight.into() })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_answer_is_the_best_of_all(
            classes in prop::collection::vec(class(), 1..7),
            capacity in 0_u32..300,
        ) {
            let capacity = f64::from(capacity);
            let solution = solve(&classes, capacity);
            let best = by_trying(&classes, capacity);
            prop_assert_eq!(solution.as_ref().map(|solution| solution.cost), best);
            if let Some(solution) = solution {
                prop_assert!(solution.gap().abs() < f64::EPSILON);
                prop_assert!(solution.weight <= capacity);
                let chosen = classes.iter().zip(&solution.chosen).map(|(class, &place)| class[place]);
                let (cost, weight) = chosen.fold((0.0, 0.0), |sum, next| {
                    (sum.0 + next.cost, sum.1 + next.weight)
                });
                prop_assert_eq!((cost, weight), (solution.cost, solution.weight));
            }
        }

        #[test]
        fn a_choice_from_few_states_says_how_far_off_it_can_be(
            classes in prop::collection::vec(class(), 1..7),
            capacity in 0_u32..300,
        ) {
            let capacity = f64::from(capacity);
            let solution = solve_with(&classes, capacity, 1);
            let best = by_trying(&classes, capacity);
            prop_assert_eq!(solution.is_some(), best.is_some());
            if let Some((solution, best)) = solution.zip(best) {
                prop_assert!(solution.lower_bound <= best && best <= solution.cost);
                prop_assert!(solution.weight <= capacity);
            }
        }
    }

    #[test]
    fn a_model_of_eighty_layers_is_solved_to_the_end() {
        let mut random = fastrand::Rng::with_seed(3);
        let bits = [2.625, 3.4375, 4.5, 5.5, 6.5625, 8.5];
        let classes: Vec<Vec<Item>> = (0..560)
            .map(|class| {
                let weights = f64::from(1 << (20 + class % 5));
                let sensitivity = random.f64().powi(3) * weights;
                bits.iter()
                    .map(|bits| Item {
                        cost: sensitivity * 4.0_f64.powf(-bits) * (0.8 + 0.4 * random.f64()),
                        weight: weights * bits / 8.0,
                    })
                    .collect()
            })
            .collect();
        let weights: f64 = classes.iter().map(|class| class[0].weight * 8.0 / bits[0]).sum();
        let solution = solve(&classes, weights * 4.25 / 8.0).unwrap();
        assert!(solution.gap() <= 0.0, "{} of {}", solution.gap(), solution.cost);
    }
}
