"""`fintune-kit doctor`: tells what this machine can run, and how to mend the rest."""


def doctor() -> None:
    """Say what this machine can run, and what to do about the rest."""
    from fintune_kit import hardware
    from fintune_kit.tpu import devices

    for finding in (*hardware.doctor(), *devices.doctor()):
        print(f"{'ok ' if finding.fine else 'NO '} {finding.what:<14} {finding.detail}")
        if finding.remedy:
            print(f"     {'':<14} {finding.remedy}")
