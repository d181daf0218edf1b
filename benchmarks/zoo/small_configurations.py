"""Configurations of transformers with small values for whatever settings a class has."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

# Settings by value. A class takes those that it knows.
_SETTINGS: tuple[tuple[Any, str], ...] = (
    (0, "attention_probs_dropout_prob hidden_dropout_prob mtp_num_layers num_kv_shared_layers "
        "num_nextn_predict_layers pad_index pad_token_id"),
    (1, "bos_index bos_token_id cls_token_id decoder_start_token_id eos_index feature_size "
        "first_k_dense_replace mamba_n_groups n_group n_shared_experts num_hidden_groups "
        "topk_group"),
    (2, "altup_num_inputs decoder_layers decoder_num_hidden_layers depth encoder_layers "
        "encoder_num_hidden_layers eos_token_id expand index_n_heads layers linear_num_key_heads "
        "mamba_expand moe_k moe_topk n_layer n_layers num_block_layers num_codebooks "
        "num_codevector_groups num_conv_pos_embedding_groups num_decoder_layers "
        "num_encoder_layers num_experts_per_tok num_hidden_layers num_key_value_heads "
        "num_kv_heads num_layers sep_token_id spatial_merge_size temporal_patch_size top_k "
        "type_vocab_size"),
    (3, "in_channels mask_token_id num_channels unk_index"),
    (4, "attention_heads attention_window decoder_attention_heads decoder_num_attention_heads "
        "encoder_attention_heads encoder_num_attention_heads heads index_topk "
        "linear_num_value_heads mask_index moe_num_experts n_head n_heads n_routed_experts "
        "num_attention_heads num_experts num_heads num_local_experts rotary_dim window_size"),
    (5, "image_token_id image_token_index"),
    (6, "video_token_id"),
    (7, "audio_token_id audio_token_index"),
    (8, "attention_window_size codebook_dim d_head d_kv head_dim hidden_size_per_layer_input "
        "index_head_dim laurel_rank linear_key_head_dim linear_value_head_dim mamba_d_head "
        "mamba_d_state mamba_n_heads num_conv_pos_embeddings patch_size qk_nope_head_dim "
        "qk_rope_head_dim rank sliding_window ssm_state_size state_size v_head_dim "
        "vision_start_token_id vq_embed_dim"),
    (9, "vision_end_token_id"),
    (10, "boi_token_id num_codevectors_per_group num_queries"),
    (11, "eoi_token_id"),
    (16, "codevector_dim kv_lora_rank num_mel_bins proj_codevector_dim projection_dim "
         "q_lora_rank rnn_hidden_size"),
    (24, "expert_ffn_hidden_size moe_intermediate_size shared_expert_intermediate_size"),
    (32, "base_channels codebook_size cross_attention_hidden_size d_embed d_latents d_model "
         "decoder_dim "
         "decoder_hidden_size dim emb_dim embed_dim embedding_dim embedding_size encoder_dim "
         "encoder_hidden_size fpn_hidden_size hidden_channels hidden_dim hidden_size image_size "
         "lru_width model_dim n_embd out_hidden_size width word_embed_proj_dim"),
    (48, "d_ff d_inner decoder_ffn_dim dim_feedforward encoder_ffn_dim "
         "encoder_intermediate_size ffn_dim ffn_hidden_size intermediate_size mlp_dim n_inner"),
    (64, "max_position_embeddings max_sequence_length max_source_positions "
         "max_target_positions n_ctx n_positions"),
    (99, "char_vocab_size entity_vocab_size t2u_vocab_size unit_hifi_gan_vocab_size vocab_size "
         "vocab_size_per_layer_input"),
    (False, "use_cache"),
    ((32, 32), "conv_dim"),
    ((5, 2), "conv_stride"),
    ((10, 3), "conv_kernel"),
)  # fmt: skip
_SMALL = {name: value for value, names in _SETTINGS for name in names.split()}
# Settings of single types of models, which follow from others in a way that no name tells.
_SECTIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_SERIES = {
    "prediction_length": 4,
    "context_length": 8,
    "lags_sequence": [1, 2],
    "num_time_features": 1,
}
_WINDOWS = {"image_size": 64, "patch_size": 4, "window_size": 2}
_OF_TYPES: dict[str, dict[str, Any]] = {
    **{
        name: settings
        for names, settings in (
            ("informer time_series_transformer", _SERIES),
            ("bridgetower bridgetower_text_model bridgetower_vision_model", {"hidden_size": 64}),
            ("donut-swin swin swinv2", _WINDOWS),
            ("sam_hq_vision_model sam_vision_model", {"output_channels": 32}),
            (
                "glm4v_text glm_image_text glm_ocr_text qwen2_5_vl_text qwen2_vl_text",
                {"rope_parameters": _SECTIONS},
            ),
        )
        for name in names.split()
    },
    "align_vision_model": {"width_coefficient": 1.0, "depth_coefficient": 1.0},
    "bros": {"hidden_size": 64},
    "clvp_decoder": {"feature_size": 16},
    "efficientnet": {"width_coefficient": 1.0, "depth_coefficient": 1.0},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8},
    "glm4v_moe_text": {"rope_parameters": {**_SECTIONS, "partial_rotary_factor": 1.0}},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lilt": {"hidden_size": 48},
    "mamba2": {"num_heads": 8},
}
_DEPTHS = ("decoder_depths", "depths", "encoder_depths", "layer_depths", "num_blocks")
_WIDTHS = ("channels", "dims", "embed_dims", "encoder_hidden_sizes", "hidden_dims", "hidden_sizes")
_HEADS = ("num_attention_heads", "num_attention_heads_per_stage", "num_heads")
_ATTEMPTS = 8


def list_configurations(kind: Any) -> Iterator[Callable[[], Any]]:
    """Yield makers of small configurations that may fit, then of the one by default.

    Networks that others are built upon have settings for each stage, which often depend on each
    other: the second configuration leaves these parts as they are.
    """
    yield partial(make_configuration, kind)
    yield partial(make_configuration, kind, whole_backbones=True)
    yield kind


def make_configuration(kind: Any, *, whole_backbones: bool = False) -> Any:
    """Make a small configuration, without the settings to which its class objects."""
    settings = _choose_settings(kind, whole_backbones)
    for _ in range(_ATTEMPTS):
        try:
            return kind(**settings)
        except Exception as error:  # of any kind: validators raise what they like
            objected = next((name for name in settings if name in str(error)), None)
            if objected is None:
                raise
            del settings[objected]
    return kind(**settings)


def _choose_settings(kind: Any, whole_backbones: bool) -> dict[str, Any]:
    defaults = _list_defaults(kind)
    derived = set(getattr(kind, "attribute_map", {}))
    if "qk_rope_head_dim" in defaults or "rotary_dim" in defaults:
        derived.add("head_dim")
    settings: dict[str, Any] = {}
    for name, default in defaults.items():
        if name in derived:
            continue
        if isinstance(default, list | tuple) and name in (*_DEPTHS, *_WIDTHS, *_HEADS):
            settings[name] = _shrink(name, default)
        elif name == "layer_types" and default:
            settings[name] = list(default)[: _SMALL["num_hidden_layers"]]
        elif name in _SMALL:
            settings[name] = _SMALL[name]
    if "kv_lora_rank" in settings and "num_key_value_heads" in settings:
        # Keys of low rank are written out for all heads.
        settings["num_key_value_heads"] = settings["num_attention_heads"]
    for name, part in _list_parts(kind):
        if part.model_type.startswith("timm") or (whole_backbones and name == "backbone_config"):
            settings[name] = part.to_dict()
        else:
            small = make_configuration(type(part), whole_backbones=whole_backbones)
            settings[name] = small.to_dict()
    return settings | _OF_TYPES.get(getattr(kind, "model_type", ""), {})


def _list_parts(kind: Any) -> Iterator[tuple[str, Any]]:
    """List the configurations that a configuration contains, as they are by default."""
    declared = getattr(kind, "sub_configs", None) or {}
    whole = kind() if declared else None
    for name, part in declared.items():
        default = getattr(whole, name, None)
        if default is None and getattr(part, "model_type", ""):
            default = part()
        # Those of some are of any kind, until one is made.
        if getattr(default, "model_type", ""):
            yield name, default


def _shrink(name: str, values: Sequence[Any]) -> list[Any]:
    """Shrink a setting that has one number per stage."""
    if name in _WIDTHS:
        return [max(16, min(width, 16 * stage)) for stage, width in enumerate(values, start=1)]
    return [1] * len(values)


def _list_defaults(kind: Any) -> Mapping[str, Any]:
    """List the settings of a configuration with their defaults."""
    defaults: dict[str, Any] = {}
    if dataclasses.is_dataclass(kind):
        for each in dataclasses.fields(kind):
            made = each.default_factory
            defaults[each.name] = each.default if made is dataclasses.MISSING else made()
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            defaults.setdefault(name, parameter.default)
    return defaults
