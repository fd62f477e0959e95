"""What every column of a report means, for someone who has not read the papers."""

COLUMNS = {
    "method": (
        "How the model was made to forget. original, retrain and floor are no methods but "
        "yardsticks: nothing done; a new model trained without the forgotten samples, which is "
        "the target; and a second such model from another random start."
    ),
    "seeds": (
        "How many times all was repeated, each time from other random numbers. Runs that broke "
        "off are counted as failed."
    ),
    "UA": (
        "Unlearning accuracy: the percentage of the forgotten samples that the model now gets "
        "wrong. High is not good in itself: a model that never saw a picture of a cat may still "
        "recognise it. Good is what retrain has."
    ),
    "MIA": (
        "Membership inference: an attacker tries to tell which samples the model was trained on. "
        "The percentage of forgotten samples that the attacker takes for never seen. Good is what "
        "retrain has."
    ),
    "RA": (
        "Remaining accuracy: the percentage right of the training samples that were to be kept. "
        "Good is what retrain has, mostly near 100."
    ),
    "TA": (
        "Test accuracy: the percentage right of samples that no model was trained on. Where whole "
        "classes are forgotten, only the other classes count."
    ),
    "TA_forget": (
        "Test accuracy on the classes that were to be forgotten. Where retrain has 0, the class "
        "is gone."
    ),
    "avg gap": (
        "The mean, over UA, MIA, RA and TA, of the distance to retrain's value, in percentage "
        "points. Lower is better. The one number to look at first."
    ),
    "excess gap": (
        "Two retrainings differ too, for training is random. The excess gap is the average gap "
        "beyond what floor has, seed by seed. Near 0: as near as a second retraining."
    ),
    "95 % interval": (
        "Where the true excess gap plausibly lies, given how much it varies over seeds. If the "
        "interval holds 0, the seeds cannot tell the method from a second retraining: undecided, "
        "which is not the same as equal."
    ),
    "RTE s": (
        "Run-time efficiency: the seconds that the method took. Measuring is not included. Lower "
        "is better."
    ),
    "RTE / retrain": (
        "The same as a share of what retraining took on the same machine. 0.05 is a twentieth of "
        "the cost; from 1 on, retraining is the better choice."
    ),
    "ASR": (
        "Attack success rate: of test images of other classes that carry the attacker's trigger, "
        "the percentage called the attacker's class. Low is good."
    ),
    "ASR_all": (
        "The same over all test images with the trigger, the attacker's class among them: with "
        "ten even classes, a clean model has about 10."
    ),
    "ASR_rest": (
        "Of the poisoned training samples that were not asked for, the percentage still called "
        "the attacker's class."
    ),
    "SA": (
        "Standard accuracy: the percentage right of clean test samples, of all classes. It should "
        "stay."
    ),
    "mask_overlap": (
        "How far the mask of a sparse original depends on the forgotten samples. It is compared with "
        "the mask found without them: of the weights that either keeps, the percentage that both "
        "keep (Jaccard index; 100: the same mask). High is good."
    ),
    "mask_s": "The seconds that finding the mask took, its trainings included.",
    "linear_probe": (
        "Transfer: accuracy on the target task when only a new last layer is learned, on what the "
        "model sees. High is good."
    ),
    "linear_probe_s": "The seconds that this took.",
    "full_finetune": (
        "Transfer: accuracy on the target task when all weights are trained on. High is good."
    ),
    "full_finetune_s": "The seconds that this took.",
    "relearn_time": (
        "Steps of training on the forgotten samples until the model knows them again as the "
        "original did. Good is what retrain needs: fewer means that traces are left, many more "
        "that they were pushed away. A model that never knew them again within 500 steps has none: "
        "then the cell says of how many seeds it is the mean."
    ),
    "AIN": "Anamnesis index: relearn_time divided by retrain's. 1 is good.",
    "weight_distance": (
        "How far the weights are from retrain's, by the length of those. Where retrain began with "
        "other random weights, as in every study, this is mostly the distance of the two beginnings "
        "(about 1.4) and says little about forgetting; floor shows how much."
    ),
    "prediction_distribution": (
        "How differently the model and retrain name the forgotten samples, in bits; 0: the same. "
        "Good is what floor has."
    ),
}
"""By header."""
