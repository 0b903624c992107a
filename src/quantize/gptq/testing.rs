//! Matrices for tests.

/// A positive definite matrix with strong correlations and columns of very different size, as inputs of a
/// network have.
pub(crate) fn correlated(size: usize, random: &mut fastrand::Rng) -> Vec<f32> {
    let samples = 4 * size;
    let causes = size / 4;
    let mixing: Vec<f32> = (0..causes * size).map(|_| normal(random)).collect();
    let columns: Vec<f32> = (0..size).map(|_| (normal(random) * 0.8).exp()).collect();
    let mut matrix = vec![0.0; size * size];
    let mut row = vec![0.0; size];
    for _ in 0..samples {
        let hidden: Vec<f32> = (0..causes).map(|_| normal(random)).collect();
        for (j, value) in row.iter_mut().enumerate() {
            let shared: f32 =
                hidden.iter().enumerate().map(|(k, cause)| cause * mixing[k * size + j]).sum();
            *value = columns[j] * (0.5 * shared + normal(random));
        }
        for i in 0..size {
            for j in 0..size {
                matrix[i * size + j] += row[i] * row[j];
            }
        }
    }
    for i in 0..size {
        matrix[i * size + i] += 1e-3;
    }
    let scale = 1.0 / f32::from(u16::try_from(samples).unwrap());
    for value in &mut matrix {
        *value *= scale;
    }
    matrix
}

/// A number from the standard normal distribution.
pub(crate) fn normal(random: &mut fastrand::Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.f32()).ln()).sqrt();
    radius * (std::f32::consts::TAU * random.f32()).cos()
}

/// `e H eᵀ`.
pub(crate) fn quadratic(matrix: &[f32], error: &[f32]) -> f32 {
    let size = error.len();
    let mut sum = 0.0_f64;
    for i in 0..size {
        for j in 0..size {
            sum += f64::from(error[i]) * f64::from(matrix[i * size + j]) * f64::from(error[j]);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "compared with few digits")]
    let sum = sum as f32;
    sum
}
