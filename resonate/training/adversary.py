"""An adversary for the restorer's synthesis: a small critic of log spectrograms.

Off unless ``model.loss.adversarial`` is above 0, because what fools a critic need not be what was played. The critic
sees only magnitudes outside the captured band (both sides are the reference inside it), so it cannot bear on the gains.
Hinge losses after Lim and Ye, "Geometric GAN" (2017); patches after Isola et al., "Image-to-Image Translation with
Conditional Adversarial Networks" (2017).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from resonate.models.stats import BINS


class Critic(nn.Module):
    """(batch, 1025, frames) magnitudes in dB to a score per patch of about 0.7 s and a fifth of the spectrum."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = (2, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Conv2d(a, b, (8, 4), (4, 2), (2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(sizes[-1], 1, 3, padding=1))
        # Where in the spectrum a patch lies.
        self.register_buffer("place", torch.linspace(-1, 1, BINS)[None, None, :, None])

    def forward(self, level_db: Tensor) -> Tensor:
        """Scores; positive for what passes for music."""
        x = (level_db[:, None].clamp(-120, 20) + 50) / 30
        return self.layers(torch.cat([x, self.place.expand(len(x), 1, BINS, x.shape[-1])], 1))


class Adversary:
    """A critic and its optimiser, apart from the model that is exported.

    Args:
        device: where it computes.
        lr: of the critic.
    """

    def __init__(self, device: torch.device, lr: float = 2e-4) -> None:
        self.critic = Critic().to(device)
        self.optimiser = torch.optim.Adam(self.critic.parameters(), lr=lr, betas=(0.5, 0.9))

    def to(self, device: torch.device) -> None:
        """Compute there, with what a checkpoint brought of the optimiser, too."""
        self.critic.to(device)
        # Loading puts the state where the weights are.
        self.optimiser.load_state_dict(self.optimiser.state_dict())

    def learn(self, synthesised_db: Tensor, real_db: Tensor) -> Tensor:
        """One step of the critic on (batch, 1025, frames) each; its hinge loss."""
        with torch.enable_grad():
            scores = [self.critic(x.detach()) for x in (synthesised_db, real_db)]
            loss = (1 + scores[0]).clamp(min=0).mean() + (1 - scores[1]).clamp(min=0).mean()
            self.optimiser.zero_grad()
            loss.backward()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # One critic for all processes: each learns from what all have heard.
            for weight in self.critic.parameters():
                torch.distributed.all_reduce(weight.grad)
                weight.grad /= torch.distributed.get_world_size()
        self.optimiser.step()
        return loss.detach()

    def loss(self, synthesised_db: Tensor) -> Tensor:
        """What the synthesis pays for being told apart; the critic itself learns nothing from it."""
        self.critic.requires_grad_(False)
        score = -self.critic(synthesised_db).mean()
        self.critic.requires_grad_(True)
        return score

    def state_dict(self) -> dict:
        """For a checkpoint."""
        return {"critic": self.critic.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """From a checkpoint."""
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])
