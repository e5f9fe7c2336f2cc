"""A network that says one number, of a whole text or at each token: the policy's layers with another head.

B: rows   T: token positions, right-padded   M: tokens under the mask   D: model width
"""

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from r1kit.config.model import ModelSettings
from r1kit.errors import ModelError
from r1kit.models.loading import (
    load_network,
    load_tokenizer,
    num_parameters_of,
    refuse_foreign_tokenizer,
    resolve_folder,
)
from r1kit.models.placement import place
from r1kit.models.trainable import Trainable

SCORING_HEAD = ("score.", "classifier.")
LANGUAGE_HEAD = ("lm_head.", "embed_out.")


class ScalarModel(Trainable):
    """An AutoModelForSequenceClassification of `transformers` with one label, and its tokenizer.

    The head is applied in the precision of the weights, so that small differences of scores are not rounded away.
    """

    auto_class = AutoModelForSequenceClassification

    @property
    def head(self) -> nn.Linear:
        """Hidden states to the one number."""
        return next(getattr(self.model, name.rstrip(".")) for name in SCORING_HEAD if hasattr(self.model, name[:-1]))

    def values(self, token_ids_BT: Tensor, mask_BT: Tensor, *, recomputes_layers: int = 0) -> Tensor:
        """What the network says before each token under the mask, of all tokens that stand before it (B, T); else 0.

        The same positions as those at which a policy predicts these tokens: rows are packed, and what they share
        before their first token under the mask is forwarded once. Position 0 can't be under the mask.
        """
        token_ids_BT, mask_BT = token_ids_BT.to(self.device), mask_BT.to(self.device)
        hidden_MD, _ = self.network.hidden_states(
            token_ids_BT, mask_BT, recomputes_layers=recomputes_layers if torch.is_grad_enabled() else 0
        )
        values_M = self.head(hidden_MD.to(self.head.weight.dtype))[:, 0]
        empty_BT = torch.zeros(mask_BT.shape, dtype=values_M.dtype, device=self.device)
        return empty_BT.masked_scatter(mask_BT, values_M)


def load_scalar(settings: ModelSettings, *, trains: bool = False, is_new: bool = False) -> ScalarModel:
    """The network that the settings name with one number for its head; where it `is_new`, a head of zeros.

    A new one is made of any language model's folder: its first scores are exactly 0. One that is not new must have
    been trained to score. Raises ModelError, in one line, for what is no such model. A network that `trains` keeps
    float32 weights.
    """
    folder = resolve_folder(settings.path, settings.revision)
    placement = place(settings, num_parameters_of(folder))
    tokenizer = load_tokenizer(folder)
    heads = (*LANGUAGE_HEAD, *SCORING_HEAD) if is_new else ()
    dtype = torch.float32 if trains else placement.dtype
    try:
        model = load_network(ScalarModel.auto_class, folder, dtype, heads=heads, num_labels=1)
    except ModelError as error:
        if is_new or not any(name in str(error) for name in SCORING_HEAD):
            raise
        raise ModelError(
            f"{folder}: this is no reward model: it has no head for one score; train one with a recipe of "
            "kind = 'reward_model', or name another folder"
        ) from error
    refuse_foreign_tokenizer(folder, len(tokenizer), model.get_input_embeddings().num_embeddings)
    scalar = ScalarModel(model.to(placement.device), tokenizer, compute_dtype=placement.dtype)
    if is_new:
        nn.init.zeros_(scalar.head.weight)
        if scalar.head.bias is not None:
            nn.init.zeros_(scalar.head.bias)
    return scalar
