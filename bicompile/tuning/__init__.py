"""Tuning: MetaSchedule's search over what schedules may decide, measured on a device."""
