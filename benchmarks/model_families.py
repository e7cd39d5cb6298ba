"""Record every leaf module of models from timm and transformers, and compare with hand-written hooks.

    python benchmarks/model_families.py                  # all models, random weights, small images
    python benchmarks/model_families.py levit_128s GPT2Model

Models are used as built, in train mode. For each, three checks. Every call of every leaf module and the output must be
bit-identical to what hand-written hooks record in a copy of the model in eval mode. The model must be bit-identical
afterwards. And it must still return the same. Models from transformers are also recorded over two batches, which are
dicts. Both packages come with the `bench` dependency group; those not installed are skipped.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import featurelens as fl

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.state import snapshot

Calls = dict[str, list[list[torch.Tensor]]]
Case = tuple[Callable[[], nn.Module], list[dict[str, Any]]]

# Small models from 95 of the 98 modules in timm.models, by the smallest image size they accept among those tried.
TIMM = {
    64: """
        resnet10t resnext50_32x4d resnetv2_18 legacy_seresnet18 skresnet18 resnest14d res2net50_14w_8s densenet121
        legacy_xception xception41 vgg11 efficientnet_b0 mnasnet_small mobilenetv3_small_050 hardcorenas_a lcnet_035
        lcnetv2_small convnext_atto convnextv2_atto convmixer_768_32 test_vit regnetx_002 regnety_002 rexnet_100
        ghostnet_050 ghostnetv2_100 ghostnetv3_050 repghostnet_050 hrnet_w18_small dla46_c dpn48b dpn68 dm_nfnet_f0
        nfnet_l0 nf_resnet50 crossvit_9_240 pvt_v2_b0 twins_pcpvt_small twins_svt_small poolformer_s12 caformer_s18
        edgenext_xx_small efficientvit_b0 efficientvit_m0 efficientvim_m1 mobilevit_xxs mobilevitv2_050 tresnet_m
        xcit_nano_12_p16_224 ese_vovnet19b_slim_dw cspresnet50 cs3darknet_s darknet17 cspnext_tiny sam2_hiera_tiny
        fastvit_t8 repvgg_a0 mobileone_s0 gernet_s lambda_resnet26t davit_tiny focalnet_tiny_srf hgnetv2_b0
        inception_next_atto mambaout_femto mvitv2_tiny naflexvit_base_patch16_gap nextvit_small rdnet_tiny
        repvit_m0_9 selecsls42 sequencer2d_s shvit_s1 starnet_s050 swiftformer_xs tiny_vit_5m_224 fasternet_t0
        samvit_base_patch16_224 iformer_t csatv2 cpubone_nano lowformer_b0 nasnetalarge pnasnet5large qwen3_vit_88m
    """,
    96: "inception_v3 inception_v4 inception_resnet_v2",
    160: "test_vit_relpos",
    224: """
        vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224
        swin_tiny_patch4_window7_224 swin_s3_tiny_224 swinv2_cr_tiny_224 beit_base_patch16_224 mixer_s32_224
        gmlp_ti16_224 resmlp_12_224 gmixer_12_224 coat_tiny coat_lite_tiny coatnet_pico_rw_224 cait_xxs24_224
        convit_tiny levit_128s efficientformer_l1 efficientformerv2_s0 volo_d1_224 eva02_tiny_patch14_224
        hiera_tiny_224 gcvit_xxtiny nest_tiny pit_ti_224 tnt_s_patch16_224 vitamin_small_224 visformer_tiny
    """,
    256: "swinv2_tiny_window8_256 maxvit_pico_rw_256 botnet26t_256 halonet26t",
}


def timm_cases() -> Iterator[tuple[str, Case]]:
    """Yield each model's name, how to build it, and a batch for it."""
    import timm

    for size, names in TIMM.items():
        for name in names.split():
            yield name, (lambda name=name: timm.create_model(name), [{"x": torch.rand(2, 3, size, size)}])


def transformers_cases() -> Iterator[tuple[str, Case]]:
    """Yield the same for models built from configurations: three of the usual size, two small ones that return caches."""
    import transformers as tf

    tf.logging.set_verbosity_error()

    def tokens(length: int, name: str = "input_ids") -> dict[str, Any]:
        return {name: torch.randint(1000, (2, length))}

    def text(**more: Any) -> dict[str, Any]:
        mask = torch.ones(2, 16, dtype=torch.int64)
        mask[1, 12:] = 0
        return tokens(16) | {"attention_mask": mask} | more

    few: dict[str, Any] = {"vocab_size": 1000, "num_hidden_layers": 2, "num_attention_heads": 4}
    llama = tf.LlamaConfig(hidden_size=64, intermediate_size=128, num_key_value_heads=2, **few)
    t5 = tf.T5Config(vocab_size=1000, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4)
    yield "GPT2Model", (lambda: tf.GPT2Model(tf.GPT2Config()), [text(), text()])
    yield "BertModel", (lambda: tf.BertModel(tf.BertConfig()), [text(), text()])
    images = [{"pixel_values": torch.rand(2, 3, 224, 224)} for _ in range(2)]
    yield "ViTModel", (lambda: tf.ViTModel(tf.ViTConfig()), images)
    yield "LlamaForCausalLM", (lambda: tf.LlamaForCausalLM(llama), [text(use_cache=True) for _ in range(2)])
    pairs = [text(use_cache=True) | tokens(5, "decoder_input_ids") for _ in range(2)]
    yield "T5ForConditionalGeneration", (lambda: tf.T5ForConditionalGeneration(t5), pairs)


PACKAGES = {"timm": timm_cases, "transformers": transformers_cases}


def is_leaf(name: str, module: nn.Module) -> bool:
    return not list(module.children())


def tensors(value: Any) -> list[torch.Tensor]:
    """Return all tensors in tuples, dicts and objects such as caches."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif hasattr(value, "__dict__"):
        value = vars(value).values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for item in value for tensor in tensors(item)]


def by_hand(model: nn.Module, batch: dict[str, Any]) -> tuple[Calls, Any]:
    """Return the calls of each leaf module, each as a list of copies of the returned tensors; and the output."""
    found: Calls = {}

    def hook_for(name: str) -> Any:
        return lambda module, args, output: found.setdefault(name, []).append(
            [tensor.clone() for tensor in tensors(output)]
        )

    leaves = [(name, module) for name, module in model.named_modules() if is_leaf(name, module)]
    handles = [module.register_forward_hook(hook_for(name)) for name, module in leaves]
    with torch.no_grad():
        output = model(**batch)
    for handle in handles:
        handle.remove()
    return found, output


def same(one: Any, other: Any) -> bool:
    """Return whether two values hold bit-identical tensors."""
    ones, others = tensors(one), tensors(other)
    return len(ones) == len(others) and all(map(same_bits, ones, others))


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def differences(what: str, acts: fl.Activations, calls: Calls, output: Any) -> list[str]:
    """Return what was recorded differently from the hand-written hooks."""
    expected = {
        (name if len(calls[name]) == 1 else f"{name}#{number}"): call
        for name in calls
        for number, call in enumerate(calls[name], 1)
    }
    missing = sorted(set(expected) ^ set(acts))
    wrong = [key for key, call in expected.items() if key in acts and not same(acts[key], call)]
    found = {"names": missing, "values": wrong, "output": [] if same(acts.output, output) else ["differs"]}
    return [f"{what}, {kind}: {len(keys)} {keys[:2]}" for kind, keys in found.items() if keys]


def joined(ones: list[torch.Tensor], others: list[torch.Tensor]) -> list[torch.Tensor]:
    return [torch.cat(pair) for pair in zip(ones, others, strict=True)]


def check(make: Callable[[], nn.Module], batches: list[dict[str, Any]]) -> tuple[list[str], int, int]:
    """Return what is wrong, and the number of leaf modules and calls compared."""
    torch.manual_seed(0)
    model = make()
    twin = copy.deepcopy(model).eval()
    passes = [by_hand(twin, batch) for batch in batches]
    calls, output = passes[0]
    before = snapshot(model)
    wrong = differences("call", fl.ActivationRecorder(model, is_leaf)(**batches[0]), calls, output)
    if len(batches) > 1:
        # Tensors without a batch axis, such as tables of positions, cannot be joined, and `record` raises an error.
        rows = {
            name: [joined(*both) for both in zip(calls[name], passes[1][0][name], strict=True)]
            for name in calls
            if all(len(tensor) == 2 for call in calls[name] for tensor in call)
        }
        recorder = fl.ActivationRecorder(model, lambda name, module: name in rows)
        acts = recorder.record(batches, progress=False)
        wrong += differences("record", acts, rows, joined(*(tensors(output) for _, output in passes)))
    if snapshot(model) != before:
        wrong.append("the model changed")
    with torch.no_grad():
        if not same(model.eval()(**batches[0]), output):
            wrong.append("the model returns something else")
    return wrong, len(calls), sum(map(len, calls.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="model names as listed in this file; default: all")
    wanted = parser.parse_args().models
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    done, failed, leaves, calls = 0, 0, 0, 0
    for package, cases in PACKAGES.items():
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed: its models are skipped")
            continue
        for name, (make, batches) in cases():
            if wanted and name not in wanted:
                continue
            try:
                wrong, some_leaves, some_calls = check(make, batches)
            except Exception as error:  # noqa: BLE001  the row shows any error
                reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:150]}"
                wrong, some_leaves, some_calls = [reason], 0, 0
            done, failed = done + 1, failed + bool(wrong)
            leaves, calls = leaves + some_leaves, calls + some_calls
            told = "; ".join(wrong) or "same"
            print(f"{name:34} {some_leaves:4} leaves {some_calls:5} calls  {told}", flush=True)
            gc.collect()
    print(
        f"\n{done - failed} of {done} models are recorded as by hand-written hooks and unchanged afterwards"
    )
    print(f"{leaves} leaves, {calls} calls, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
