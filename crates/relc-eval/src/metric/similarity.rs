//! How alike two maps are.

/// The cosine; `None` if one of them is all zero.
pub fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let zero = |m: &[f32]| m.iter().all(|v| *v == 0.0);
    (!zero(a) && !zero(b)).then(|| relc::map::cosine(a, b))
}

/// Pearson's correlation; `None` if one of them is constant.
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa.sqrt() * bb.sqrt()))
}

/// Spearman's rank correlation, equal values with their mean rank; `None` if one of them is constant.
pub fn spearman(a: &[f32], b: &[f32]) -> Option<f64> {
    pearson(&mean_ranks(a), &mean_ranks(b))
}

fn mean_ranks(map: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..map.len()).collect();
    order.sort_by(|a, b| map[*a].total_cmp(&map[*b]));
    let mut ranks = vec![0.0; map.len()];
    let mut start = 0;
    for group in order.chunk_by(|a, b| map[*a] == map[*b]) {
        let mean = start as f64 + (group.len() - 1) as f64 / 2.0;
        group.iter().for_each(|p| ranks[*p] = mean);
        start += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_forget_scale_and_share_ties() {
        let a = [1.0, 2.0, 3.0, 4.0];
        assert!((spearman(&a, &[1.0, 10.0, 100.0, 1000.0]).unwrap() - 1.0).abs() < 1e-12);
        assert!((spearman(&a, &[4.0, 3.0, 2.0, 1.0]).unwrap() + 1.0).abs() < 1e-12);
        // scipy.stats.spearmanr([1, 2, 3, 4], [1, 1, 2, 0])
        assert!((spearman(&a, &[1.0, 1.0, 2.0, 0.0]).unwrap() + 0.316_227_766).abs() < 1e-8);
        assert_eq!(spearman(&a, &[2.0; 4]), None);
        assert_eq!(cosine(&a, &[0.0; 4]), None);
    }
}
