"""ecsnet: weakly supervised semantic segmentation from image tags (ECS-Net, ICCV 2021).

Nothing is imported here: a Snakefile imports ``ecsnet.settings`` and must not pay for torch.
"""

__version__ = "0.1.0"
