"""The paper's claims in miniature: stages that they need, what is measured, whether they hold, over several seeds."""
