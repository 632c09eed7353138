/* Measurement records against a plain one-update-a-record model, and file hashes against one-shot digests. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "check.h"
#include "glass_measure.h"

static EVP_MD_CTX *model;

static void model_record(const char *name, uint64_t a, unsigned int a_bytes, uint64_t b)
{
    uint8_t record[64] = {0};
    memcpy(record, name, strlen(name));
    for (unsigned int i = 0; i < a_bytes; i++) {
        record[8 + i] = (uint8_t)(a >> (8 * i));
    }
    for (unsigned int i = 0; i < 8; i++) {
        record[8 + a_bytes + i] = (uint8_t)(b >> (8 * i));
    }
    CHECK(EVP_DigestUpdate(model, record, 64) == 1);
}

static void model_page(uint64_t offset, uint64_t flags, const uint8_t *content)
{
    model_record("EADD", offset, 8, flags);
    for (uint64_t at = 0; content != NULL && at < 4096; at += 256) {
        model_record("EEXTEND", offset + at, 8, 0);
        CHECK(EVP_DigestUpdate(model, content + at, 256) == 1);
    }
}

static void test_records(const glass_ctx *ctx)
{
    static uint8_t content[40 * 4096];
    static const uint8_t zeros[4096];
    for (size_t i = 0; i < sizeof content; i++) {
        content[i] = (uint8_t)(i * 7 + i / 4096);
    }
    for (uint64_t pages = 0; pages <= 40; pages += pages < 26 ? 1 : 14) { /* around one and two batches */
        model = EVP_MD_CTX_new();
        CHECK(EVP_DigestInit_ex(model, EVP_sha256(), NULL) == 1);
        model_record("ECREATE", 4, 4, 1ULL << 30);
        for (uint64_t i = 0; i < pages; i++) {
            model_page(i * 4096, 0x201, content + i * 4096);
        }
        for (uint64_t i = 0; i < pages; i++) {
            model_page((100 + i) * 4096, 0x203, zeros);
        }
        for (uint64_t i = 0; i < pages * 100; i++) {
            model_page((200 + i) * 4096, 0x207, NULL);
        }
        uint8_t expected[32];
        CHECK(EVP_DigestFinal_ex(model, expected, NULL) == 1);
        EVP_MD_CTX_free(model);

        glass_measure *measure = NULL;
        uint8_t actual[32];
        CHECK_STATUS(GLASS_OK, glass_measure_new(ctx, &measure, 4, 1ULL << 30));
        CHECK_STATUS(GLASS_OK, glass_measure_extend(measure, 0, 0x201, content, (size_t)pages * 4096));
        CHECK_STATUS(GLASS_OK, glass_measure_extend_zero(measure, 100 * 4096, pages, 0x203));
        CHECK_STATUS(GLASS_OK, glass_measure_add(measure, 200 * 4096, pages * 100, 0x207));
        CHECK_STATUS(GLASS_OK, glass_measure_final(measure, actual));
        CHECK(memcmp(expected, actual, 32) == 0);
        CHECK_STATUS(GLASS_ERR_STATE, glass_measure_add(measure, 0, 1, 0x207));
        CHECK_STATUS(GLASS_ERR_STATE, glass_measure_final(measure, actual));
        glass_measure_free(measure);
    }
}

static void test_limits(const glass_ctx *ctx)
{
    glass_measure *measure = NULL;
    uint8_t page[4096] = {0};
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_new(ctx, &measure, 4, 0));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_new(ctx, &measure, 4, 4097));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_new(NULL, &measure, 4, 4096));
    CHECK(measure == NULL);
    CHECK_STATUS(GLASS_OK, glass_measure_new(ctx, &measure, 4, 65536));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_add(measure, 1, 1, 0));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_add(measure, 0, 17, 0));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_add(measure, 65536, 1, 0));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_add(measure, 4096, UINT64_MAX, 0));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_add(measure, UINT64_MAX - 4095, 2, 0));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_extend(measure, 0, 0, page, 4095));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_extend(measure, 0, 0, NULL, 4096));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_extend(measure, 65536, 0, page, 4096));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_measure_extend_zero(measure, 61440, 2, 0));
    CHECK_STATUS(GLASS_OK, glass_measure_extend_zero(measure, 61440, 1, 0));
    glass_measure_free(measure);
    glass_measure_free(NULL);
}

static void test_files(const glass_ctx *ctx)
{
    enum { COUNT = 40 };
    static uint8_t content[1 << 20];
    for (size_t i = 0; i < sizeof content; i++) {
        content[i] = (uint8_t)(i * 31 + i / 997);
    }
    int fds[COUNT + 2];
    char name[] = "/tmp/glass-hash-XXXXXX";
    for (int i = 0; i < COUNT; i++) {
        strcpy(name, "/tmp/glass-hash-XXXXXX");
        fds[i] = mkstemp(name);
        CHECK(fds[i] >= 0 && unlink(name) == 0);
        size_t size = (size_t)i * 26000;
        CHECK(write(fds[i], content, size) == (ssize_t)size);
    }
    fds[COUNT] = -1;
    fds[COUNT + 1] = open("/", O_RDONLY);
    for (unsigned int threads = 1; threads <= 5; threads++) {
        glass_file_digest out[COUNT + 2];
        CHECK_STATUS(GLASS_OK, glass_hash_files(ctx, out, fds, COUNT + 2, threads));
        for (size_t i = 0; i < COUNT; i++) {
            uint8_t expected[32];
            CHECK_STATUS(GLASS_OK, glass_sha256(ctx, expected, content, i * 26000));
            CHECK(out[i].status == GLASS_OK && out[i].size == i * 26000);
            CHECK(memcmp(expected, out[i].sha256, 32) == 0);
        }
        CHECK(out[COUNT].status == GLASS_ERR_IO && out[COUNT].error != 0);
        CHECK(out[COUNT + 1].status == GLASS_ERR_IO && out[COUNT + 1].error != 0);
    }
    for (int i = 0; i < COUNT + 2; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    glass_file_digest none;
    CHECK_STATUS(GLASS_OK, glass_hash_files(ctx, NULL, NULL, 0, 1));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_hash_files(ctx, &none, fds, 1, 0));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_hash_files(ctx, &none, fds, 1, 65));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_hash_files(ctx, &none, NULL, 1, 1));
}

int main(void)
{
    glass_ctx *ctx = NULL;
    CHECK_STATUS(GLASS_OK, glass_ctx_new(&ctx));
    test_records(ctx);
    test_limits(ctx);
    test_files(ctx);
    glass_ctx_free(ctx);
    return 0;
}
