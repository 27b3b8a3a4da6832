"""Networks: BiFSMNv2 and its float twin (needs the extra `train`)."""
