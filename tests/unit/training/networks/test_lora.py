"""Adapters: nothing changes when they are put in, and nothing is left when they are merged."""

import pytest
import torch
from torch import nn

from quakestream.errors import ConfigError
from training.networks.lora import LoraConfig, LoraLinear, add_lora, lora_parameters, merge_lora


def stack() -> nn.Module:
    torch.manual_seed(0)
    block = [nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 6)) for _ in range(2)]
    return nn.Sequential(*block, nn.Linear(6, 1)).eval()


CONFIG = LoraConfig(patterns=("[01].0", "[01].2"), rank=3, alpha=6.0)


def test_a_network_computes_the_same_with_new_adapters() -> None:
    network, x = stack(), torch.randn(5, 6)
    expected = network(x)
    assert add_lora(network, CONFIG) == ("0.0", "0.2", "1.0", "1.2")
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)


def test_only_adapters_and_layers_without_one_learn() -> None:
    network = stack()
    add_lora(network, CONFIG)
    adapters = lora_parameters(network)
    assert sum(p.numel() for p in adapters) == 4 * 3 * (6 + 9)
    trained = {n for n, p in network.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in network.named_parameters() if ".base." not in n}


def test_merged_weights_compute_what_the_adapters_did() -> None:
    network, x = stack(), torch.randn(5, 6)
    names = set(network.state_dict())
    before = network(x).detach()
    add_lora(network, CONFIG)
    with torch.no_grad():
        for parameter in lora_parameters(network):
            parameter.normal_(std=0.5)
    adapted = network(x).detach()
    assert float((adapted - before).abs().max()) > 0.1
    assert merge_lora(network) == ("0.0", "0.2", "1.0", "1.2")
    torch.testing.assert_close(network(x), adapted)
    assert set(network.state_dict()) == names
    assert all(p.requires_grad for p in network.parameters())


def test_the_adapter_is_the_product_scaled_by_alpha_over_rank() -> None:
    layer = LoraLinear(nn.Linear(2, 2, bias=False), LoraConfig(patterns=("*",), rank=1, alpha=3.0))
    with torch.no_grad():
        layer.base.weight.zero_()
        layer.lora_a.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_b.copy_(torch.tensor([[5.0], [0.0]]))
        found = layer.eval()(torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[45.0, 0.0]]))


@pytest.mark.parametrize("patterns", [("*.qkv",), ("0.0", "*.missing")])
def test_a_pattern_without_a_layer_is_refused(patterns: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="no linear layer"):
        add_lora(stack(), LoraConfig(patterns=patterns))


def test_a_layer_gets_one_adapter() -> None:
    network = stack()
    add_lora(network, CONFIG)
    with pytest.raises(ConfigError, match="without an adapter"):
        add_lora(network, LoraConfig(patterns=("*.base",)))


@pytest.mark.parametrize("sizes", [{"rank": 0}, {"dropout": 1.0}])
def test_impossible_adapters_are_refused(sizes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="adapter is impossible"):
        LoraConfig(patterns=("*",), **sizes)
