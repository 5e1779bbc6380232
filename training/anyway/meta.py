"""Trains heads on episodes, and answers episodes: any-way, prototypes, and a linear probe."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from training.anyway.episodes import Episode, EpisodeSampler
from training.anyway.head import (
    Adaptation,
    AnyWayHead,
    adapted,
    anyway_loss,
    anyway_scores,
    assignments,
    call,
)
from training.probe import linear_probe
from training.seeds import torch_rng

Answer = Callable[[Episode, int], Tensor]
"""Scores (n, grades) of the queries of an episode; the number seeds what is drawn."""
_INIT, _OUTPUTS, _TEST = 31, 32, 33
"""Streams of random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaTraining:
    """How a head is trained on episodes."""

    outputs: int = 30
    """Outputs of the head. As many as grades, and one way, is plain MAML."""
    hidden: int = 64
    episodes: int = 1500
    lr: float = 1e-3
    """Rate of the outer steps, Adam."""
    semantic: float = 0.0
    """Weight of the second head, which learns the survey's grades."""
    adaptation: Adaptation = field(default_factory=Adaptation)


def train_anyway(sampler: EpisodeSampler, how: MetaTraining) -> AnyWayHead:
    """Trains a head so that a few steps on the labels of an episode grade its queries."""
    features, grades = sampler.events[0].feature_ND.shape[1], sampler.events[0].grades
    torch.manual_seed(torch_rng(sampler.seed, _INIT).initial_seed())
    head = AnyWayHead(
        features,
        hidden=how.hidden,
        outputs=how.outputs,
        grades=grades if how.semantic else 0,
    )
    optimiser = torch.optim.Adam(head.parameters(), lr=how.lr)
    for number in range(how.episodes):
        episode = sampler(number)
        draw = torch_rng(sampler.seed, _OUTPUTS, number)
        output_GC = assignments(how.outputs, episode.ways, draw)
        weights = adapted(
            head, episode.support_ND, episode.support_label_N, output_GC, how.adaptation
        )
        logits_nK = call(head, weights, episode.query_nD)
        # The mean over assignments, so that episodes of few grades do not outweigh the others.
        loss = anyway_loss(logits_nK, episode.query_label_n, output_GC) / len(output_GC)
        if how.semantic:
            known = head.grade_logits(episode.query_nD)
            part = nn.functional.cross_entropy(known, episode.query_grade_n)
            loss = loss + how.semantic * part
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return head


def anyway_answer(head: AnyWayHead, how: Adaptation, *, most: int = 0, tau: float = 0.0) -> Answer:
    """Answers by an adapted head.

    Args:
        head: a trained head.
        how: the steps that adapt it.
        most: most assignments that are used at once; 0 uses all that fit.
        tau: see `anyway_scores`.
    """

    def answer(episode: Episode, number: int) -> Tensor:
        draw = torch_rng(number, _TEST)
        output_GC = assignments(head.outputs, episode.ways, draw)
        output_GC = output_GC[:most] if most else output_GC
        weights = adapted(head, episode.support_ND, episode.support_label_N, output_GC, how)
        with torch.no_grad():
            return anyway_scores(call(head, weights, episode.query_nD), output_GC, tau=tau)

    return answer


def train_prototypes(sampler: EpisodeSampler, how: MetaTraining) -> Answer:
    """Trains an embedding in which queries lie near the mean of their grade (ProtoNet)."""
    features = sampler.events[0].feature_ND.shape[1]
    torch.manual_seed(torch_rng(sampler.seed, _INIT).initial_seed())
    network = nn.Sequential(
        nn.Linear(features, how.hidden), nn.ReLU(), nn.Linear(how.hidden, how.hidden)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=how.lr)
    for number in range(how.episodes):
        episode = sampler(number)
        scores = _prototype_scores(network, episode)
        loss = nn.functional.cross_entropy(scores, episode.query_label_n)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()

    def answer(episode: Episode, number: int) -> Tensor:
        with torch.no_grad():
            return _prototype_scores(network, episode)

    return answer


def nearest_mean(episode: Episode, number: int) -> Tensor:
    """Prototypes in the features as they are, without any training."""
    return _prototype_scores(nn.Identity(), episode)


def probe_answer(episode: Episode, number: int) -> Tensor:
    """A linear probe that is fitted to the labels of the episode alone."""
    probe = linear_probe(episode.support_ND.numpy(), episode.support_label_N.numpy(), strength=0.1)
    return torch.from_numpy(probe.predict_proba(episode.query_nD.numpy()))


def accuracies(
    answer: Answer, sampler: EpisodeSampler, episodes: int
) -> tuple[NDArray[np.float64], float]:
    """Accuracy of each episode, and the quadratic weighted kappa of all answers together."""
    right, declared, truth = [], [], []
    for number in range(episodes):
        episode = sampler(number)
        said_n = answer(episode, number).argmax(dim=1)
        right.append(float((said_n == episode.query_label_n).double().mean()))
        declared.append(said_n.numpy())
        truth.append(episode.query_label_n.numpy())
    kappa = cohen_kappa_score(np.concatenate(truth), np.concatenate(declared), weights="quadratic")
    return np.array(right), float(kappa)


def _prototype_scores(network: nn.Module, episode: Episode) -> Tensor:
    support, query = network(episode.support_ND), network(episode.query_nD)
    means = torch.stack(
        [support[episode.support_label_N == label].mean(0) for label in range(episode.ways)]
    )
    return -torch.cdist(query, means).square()
