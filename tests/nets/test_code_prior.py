"""The mixture density network of color codes, against `torch.distributions`."""

import pytest
import torch
from torch import distributions

from srcolor.nets.code_prior import COMPONENTS, LOG_STD, CodePrior, Mixture, standard_normal


def mixtures(count=3, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return Mixture(
        torch.randn(count, COMPONENTS, generator=generator).log_softmax(1),
        spread * torch.randn(count, COMPONENTS, 5, generator=generator),
        0.5 * torch.randn(count, COMPONENTS, 5, generator=generator),
    )


def reference(mixture):
    weights, means, log_stds = mixture
    return distributions.MixtureSameFamily(
        distributions.Categorical(logits=weights),
        distributions.Independent(distributions.Normal(means, log_stds.exp()), 1),
    )


def test_density_and_mean_are_those_of_torch():
    mixture, codes = mixtures(), torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mixture.log_density(codes), reference(mixture).log_prob(codes))
    torch.testing.assert_close(mixture.mean(), reference(mixture).mean)


def test_samples_have_the_statistics_of_the_mixture():
    count = 4000
    mixture = mixtures(count=2, spread=3.0)
    samples = mixture.sample(count, [0, 1]).double()
    mean, variance = reference(mixture).mean.double(), reference(mixture).variance.double()
    assert ((samples.mean(1) - mean).abs() < 5 * (variance / count).sqrt()).all()
    torch.testing.assert_close(samples.var(1), variance, rtol=0.2, atol=0)


def test_each_component_is_sampled_as_often_as_its_weight():
    """Components far from each other, of which each sample names the nearest."""
    weights = torch.tensor([[0.5, 0.3, 0.15, 0.05, 0.0]])
    means = 100 * torch.arange(COMPONENTS)[None, :, None].expand(1, -1, 5).float()
    samples = Mixture(weights.log(), means, torch.zeros(1, COMPONENTS, 5)).sample(2000, [3])[0]
    shares = torch.bincount((samples.mean(1) / 100).round().long(), minlength=COMPONENTS) / 2000
    torch.testing.assert_close(shares, weights[0], rtol=0, atol=0.04)


def test_the_third_of_eight_samples_is_the_third_of_three_whatever_the_other_images():
    mixture = mixtures()
    eight, three = mixture.sample(8, [5, 6, 7]), mixture.sample(3, [5, 6, 7])
    torch.testing.assert_close(eight[:, :3], three, rtol=0, atol=1e-5)
    alone = Mixture(*(part[1:2] for part in mixture)).sample(8, [6])
    torch.testing.assert_close(alone[0], eight[1], rtol=0, atol=1e-5)
    assert not torch.equal(mixture.sample(3, [5, 8, 7])[1], three[1])
    assert len(eight[0].unique(dim=0)) == 8


def test_an_uninformed_prior_is_a_standard_normal_whatever_the_features():
    torch.manual_seed(0)
    prior = CodePrior(7).eval()
    features, plain = torch.randn(4, 7), torch.randn(4, 5)
    codes = torch.randn(4, 5)
    assert torch.equal(prior.predict(features, plain).means, prior(features, plain).means)
    prior.informed.fill_(False)
    mixture = prior.predict(features, plain)
    expected = distributions.MultivariateNormal(torch.zeros(5), torch.eye(5)).log_prob(codes)
    torch.testing.assert_close(mixture.log_density(codes), expected)
    torch.testing.assert_close(standard_normal(mixture).log_density(codes), expected)
    torch.testing.assert_close(mixture.mean(), torch.zeros(4, 5))


def test_the_means_follow_the_code_of_the_prediction_without_one():
    prior = CodePrior(7).eval()
    features, plain = torch.randn(2, 7), torch.randn(2, 5)
    shift = torch.arange(5.0)
    torch.testing.assert_close(prior(features, plain + shift).mean(), prior(features, plain).mean() + shift)


@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_deviations_are_bounded_so_that_the_likelihood_is_finite(bias):
    prior = CodePrior(7).eval()
    torch.nn.init.constant_(prior.layers[-1].bias, bias)
    mixture = prior(torch.randn(2, 7), torch.zeros(2, 5))
    assert set(mixture.log_stds.unique().tolist()) == {LOG_STD[bias > 0]}
    assert mixture.log_density(torch.zeros(2, 5)).isfinite().all()
