# Writes statistics.csv: what R says of the data sets that test_statistics.py gives to mlops.stats.
#   Rscript statistics.R > statistics.csv
# Made with R 4.2.2, effectsize 0.8.3, pwr 1.3-0, effsize 0.8.0 (CliffDelta.R), pbo 1.3.5, NMOF 2.12-0 (probBO.R), np 0.70-6 (b.star.R).
# SOURCES names a folder with the last four's files of that name, for where CRAN cannot be reached; else library() them.
options(warn = 1)
suppressMessages({library(effectsize); library(pwr)})
sources <- Sys.getenv("SOURCES", ".")
for (file in c("CliffDelta.R", "pbo.R", "probBO.R", "b.star.R")) source(file.path(sources, file))
say <- function(name, ...) {
  values <- unlist(list(...))
  for (i in seq_along(values)) cat(sprintf("%s,%d,%.15g\n", name, i - 1, values[[i]]))
}
test <- function(name, found) say(name, found$statistic, found$p.value, found$conf.int)

# Park and Miller's minimal standard generator: the same numbers in any language.
uniforms <- function(n, seed) {
  out <- numeric(n)
  for (i in seq_len(n)) { seed <- (16807 * seed) %% 2147483647; out[i] <- seed / 2147483647 }
  out
}
normals <- function(n, seed) qnorm(uniforms(n, seed))

cat("name,index,value\n")
x <- sleep$extra[sleep$group == 1]; y <- sleep$extra[sleep$group == 2]
say("data.sleep.x", x); say("data.sleep.y", y)
test("paired_t", t.test(x, y, paired = TRUE))
say("paired_t.less", t.test(x, y, paired = TRUE, alternative = "less")$p.value)
test("welch_t", t.test(x, y))
say("welch_t.less", t.test(x, y, alternative = "less")$p.value)
d <- function(found) unlist(found[1, c(1, ncol(found) - 1, ncol(found))])
say("cohens_d", d(cohens_d(x, y))); say("cohens_d.paired", d(cohens_d(x, y, paired = TRUE)))
say("hedges_g", d(hedges_g(x, y))); say("hedges_g.paired", d(hedges_g(x, y, paired = TRUE)))

approval <- matrix(c(794, 86, 150, 570), nrow = 2)  # help(mcnemar.test); Agresti (1990), p. 350
found <- mcnemar.test(approval, correct = FALSE); say("mcnemar.asymptotic", found$statistic, found$p.value)
found <- mcnemar.test(approval); say("mcnemar.corrected", found$statistic, found$p.value)
found <- binom.test(150, 236)
say("mcnemar.exact", found$p.value); say("paired_odds_ratio", 150 / 86, found$conf.int / (1 - found$conf.int))
say("mcnemar.mid-p", 2 * pbinom(86, 236, 0.5) - dbinom(86, 236, 0.5))
say("mcnemar.mid-p.small", 2 * pbinom(1, 8, 0.5) - dbinom(1, 8, 0.5))  # Fagerland et al. (2013), table 1: 1 and 7
one <- 151 / 1602; other <- 87 / 1602
say("paired_difference", one - other + c(-1, 1) * qnorm(0.975) * sqrt((one + other - (one - other)^2) / 1602))

party <- rbind(c(762, 327, 468), c(484, 239, 477))  # help(chisq.test); Agresti (2007), p. 39
found <- chisq.test(party); say("chi_square", found$statistic, found$p.value)
found <- cramers_v(party, adjust = FALSE, alternative = "two.sided"); say("cramers_v", found$Cramers_v, found$CI_low, found$CI_high)
two <- rbind(c(30, 10), c(20, 20))
found <- chisq.test(two); say("chi_square.yates", found$statistic, found$p.value)
found <- oddsratio(two); say("odds_ratio.sample", found$Odds_ratio, found$CI_low, found$CI_high)
found <- fisher.test(two); say("odds_ratio.conditional", found$estimate, found$conf.int)
wilson <- rbind(prop.test(56, 70, correct = FALSE)$conf.int, prop.test(48, 80, correct = FALSE)$conf.int)
p <- c(56 / 70, 48 / 80)  # Newcombe (1998), Stat. Med. 17, table II: 0.0524 to 0.3339 by method 10
say("risk_difference", p[1] - p[2] - sqrt((p[1] - wilson[1, 1])^2 + (wilson[2, 2] - p[2])^2),
    p[1] - p[2] + sqrt((wilson[1, 2] - p[1])^2 + (p[2] - wilson[2, 1])^2))

air <- airquality[!is.na(airquality$Ozone), ]
may <- air$Ozone[air$Month == 5]; august <- air$Ozone[air$Month == 8]
say("data.ozone.may", may); say("data.ozone.august", august)
found <- wilcox.test(may, august, exact = FALSE); say("mann_whitney", found$statistic, found$p.value)
a <- normals(7, 11); b <- normals(8, 12) + 1
found <- wilcox.test(a, b); say("mann_whitney.exact", found$statistic, found$p.value)
a <- normals(40, 101); b <- normals(60, 20140) + 0.6
found <- ks.test(a, b, exact = TRUE); say("ks", found$statistic, found$p.value)

cliff <- function(x, y, ...) { found <- cliff.delta(x, y, ...); c(found$estimate, found$conf.int) }
say("cliffs_delta", cliff(c(10, 10, 20, 20, 20, 30, 30, 30, 40, 50), c(10, 20, 30, 40, 40, 50)))
say("cliffs_delta.negligible", cliff(c(10, 20, 20, 20, 30, 30, 30, 40, 50, 100), c(10, 20, 30, 40, 40, 50)))
# Its fast algorithm miscounts ties there: the dominance matrix asks for the plain one.
say("cliffs_delta.large", cliff(may, august, return.dm = TRUE))

say("t_power", power.t.test(n = 20, delta = 0.7, strict = TRUE)$power, power.t.test(n = 20, delta = 0.5, type = "paired", strict = TRUE)$power,
    power.t.test(n = 20, delta = 0.5, alternative = "one.sided")$power, pwr.t2n.test(n1 = 30, n2 = 60, d = 0.4)$power)
say("t_sample_size", sapply(c(0.2, 0.5, 0.8), function(d) ceiling(power.t.test(delta = d, power = 0.8)$n)),
    ceiling(power.t.test(delta = 0.5, power = 0.8, type = "paired")$n), ceiling(pwr.t.test(d = 0.3, power = 0.9)$n))
say("shares_sample_size", ceiling(power.prop.test(p1 = 0.55, p2 = 0.57, power = 0.8)$n),
    ceiling(power.prop.test(p1 = 0.50, p2 = 0.75, power = 0.9)$n), ceiling(power.prop.test(p1 = 0.6, p2 = 0.65, power = 0.8)$n))
say("shares_power", power.prop.test(n = 50, p1 = 0.5, p2 = 0.75, strict = TRUE)$power,
    power.prop.test(n = 300, p1 = 0.5, p2 = 0.6, strict = TRUE)$power)
say("chi_square_sample_size", ceiling(pwr.chisq.test(w = 0.3, df = 1, power = 0.8)$N), ceiling(pwr.chisq.test(w = 0.1, df = 4, power = 0.8)$N),
    ceiling(pwr.chisq.test(w = 0.2, df = 2, power = 0.9)$N))

p <- c(0.001, 0.012, 0.04, 0.0105, 0.3, 0.011)
say("holm", p.adjust(p, "holm")); say("benjamini_hochberg", p.adjust(p, "BH"))

returns <- matrix(normals(160 * 10, 15), ncol = 10) + rep(seq(0, 0.27, 0.03), each = 160)
sharpes <- function(x) colMeans(x) / apply(x, 2, sd)
found <- PBO(returns, s = 8, fun = sharpes, loop.fun = FALSE)
say("pbo", found$pbo, pbo(as.data.frame(returns), s = 8, f = sharpes)$phi)
say("pbo.logits", found$lambda); say("pbo.in_sample", found$in.sample); say("pbo.out_of_sample", found$out.of.sample)

ar <- as.numeric(stats::filter(normals(600, 16), 0.5, method = "recursive"))
say("block_length", b.star(ar))
