"""GGUF files become folders that give the logits and tokens of the network that they were made from."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from r1kit.config.model import ModelSettings
from r1kit.errors import ModelError
from r1kit.models import gguf as ours
from r1kit.models.loading import load_model, load_policy, resolve_folder

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")

TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"


def small_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=260,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rope_theta=50000.0,
            tie_word_embeddings=True,
        )
    )


def vocabulary() -> tuple[list[str], list[str]]:
    """Two tags, every byte, and two merges, as GPT-2 writes them."""
    return ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĠĠ", "is"], ["Ġ Ġ", "i s"]


def permuted(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rows of a query or key projection in the order of llama.cpp's rotary embedding."""
    rows, columns = weight.shape
    return weight.reshape(num_heads, 2, rows // num_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(path, model, *, architecture="llama", pre="smollm", tensors=True):
    writer = gguf.GGUFWriter(path, architecture)
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(50000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    tokens, merges = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *[1] * (len(tokens) - 2)])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    state = model.state_dict()
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    inside = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for layer in range(config.num_hidden_layers):
        for theirs, name in inside.items():
            names[f"model.layers.{layer}.{theirs}.weight"] = f"blk.{layer}.{name}.weight"
    for key, name in names.items() if tensors else ():
        weight = state[key]
        if "q_proj" in key or "k_proj" in key:
            weight = permuted(weight, config.num_attention_heads if "q_proj" in key else config.num_key_value_heads)
        writer.add_tensor(name, weight.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_gguf_file_gives_the_logits_of_its_network(home):
    model = small_llama()
    write(home / "m.gguf", model)
    folder = resolve_folder(str(home / "m.gguf"))
    ids = torch.randint(0, 260, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = (load_model(folder, torch.float32)(ids).logits - model(ids).logits).abs().max()
    assert difference < 1e-5
    assert folder == resolve_folder(str(home / "m.gguf"))  # the second time it is there already


def test_a_gguf_file_cuts_texts_as_it_says_and_keeps_its_chat_template(home):
    write(home / "m.gguf", small_llama())
    tokenizer = AutoTokenizer.from_pretrained(resolve_folder(str(home / "m.gguf")))
    tokens, merges = vocabulary()
    reference = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge.split()) for merge in merges]))
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    reference.decoder = decoders.ByteLevel()
    for text in ("is  23 x", " is   7", "12 is 34  is"):
        assert tokenizer.encode(text) == reference.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    # GPT-2's own way, which is what transformers makes of it, keeps the two spaces before a number apart.
    assert tokenizer.encode("is  2")[1] == tokens.index("ĠĠ")
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")


def test_a_policy_can_be_loaded_from_a_gguf_file(home):
    write(home / "m.gguf", small_llama())
    policy = load_policy(ModelSettings(path=str(home / "m.gguf")))
    assert policy.num_parameters() == small_llama().num_parameters()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"architecture": "hal9000", "tensors": False}, "architecture 'hal9000' cannot be converted; known: .*llama"),
        ({"pre": "elvish"}, "splits texts by 'elvish', which is not known"),
    ],
)
def test_what_cannot_be_converted_faithfully_is_refused_in_one_line(home, options, says):
    write(home / "m.gguf", small_llama(), **options)
    with pytest.raises(ModelError, match=says) as caught:
        resolve_folder(str(home / "m.gguf"))
    assert "\n" not in str(caught.value)
    assert not list((home / "home").rglob("config.json"))


def test_a_damaged_gguf_file_is_refused_in_one_line(home):
    (home / "m.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(ModelError, match="not a GGUF file, or a damaged one"):
        resolve_folder(str(home / "m.gguf"))
    write(home / "n.gguf", small_llama())
    whole = (home / "n.gguf").read_bytes()
    (home / "n.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"n\.gguf: "):
        resolve_folder(str(home / "n.gguf"))


def test_the_split_patterns_are_valid():
    for pattern in ours.SPLIT_PATTERNS.values():
        pieces = pre_tokenizers.Split(ours.Regex(pattern), behavior="isolated").pre_tokenize_str("I'm 1234 years")
        assert "".join(piece for piece, _ in pieces) == "I'm 1234 years"
        assert ("123" in [piece for piece, _ in pieces]) == (pattern == ours.SPLIT_PATTERNS["llama-bpe"])
