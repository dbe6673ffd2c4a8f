"""The tasks that `task` may name, one line each; a class of one's own is named as MODULE:CLASS."""

from ray_bridge.config.registry import Registry

TASKS = Registry(
    "task",
    interface=(
        *("from_spec", "name", "instruction", "stops"),
        *("train", "test", "header", "prompt", "continuation", "answer_text", "score"),
    ),
)
TASKS.register("synthetic", "ray_bridge.tasks.synthetic.task:SyntheticTask", "word problems with foreign number words")
TASKS.register("gsm8k", "ray_bridge.tasks.gsm8k:GSM8K", "grade-school problems (Cobbe et al. 2021)")
TASKS.register("math", "ray_bridge.tasks.competition_math:CompetitionMath", "MATH (Hendrycks et al. 2021)")
TASKS.register("hotpotqa", "ray_bridge.tasks.hotpotqa:HotpotQA", "multi-hop questions with context (Yang et al. 2018)")
