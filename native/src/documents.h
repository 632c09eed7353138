/* TCB info and QE identity: the signed JSON objects of Intel, read from their verbatim bytes.
 * Invariants: what is parsed is exactly what the signature covers; TCB levels are sorted from the highest down, so their order
 * in the document decides nothing; QE levels must stand in that order already. */
#ifndef GLASS_DOCUMENTS_H
#define GLASS_DOCUMENTS_H

#include "glass_verify.h"
#include "parse.h"

enum {
    GLASS_DOCUMENT_MAX = 1048576, /* bytes of one served document */
    GLASS_LEVELS_MAX = 1024,
    GLASS_ADVISORIES_MAX = 16384, /* of one document */
    GLASS_ADVISORY_SIZE = 64      /* characters of one advisory */
};

/* {"NAME": object, "signature": 128 hexadecimal digits} and nothing else. */
typedef struct glass_signed_object {
    glass_slice bytes; /* the object, verbatim */
    uint8_t signature[64];
} glass_signed_object;

/* glass_signed_object_read finds the object and its signature; the object itself must be read by one of the two below. */
GLASS_MUST_USE glass_status glass_signed_object_read(glass_signed_object *out, glass_slice document, const char *name);

typedef struct glass_tcb_level {
    uint8_t component_svn[16]; /* of QE levels: unused */
    uint16_t svn;              /* PCESVN, or ISVSVN of a QE level */
    glass_tcb_status status;
    int64_t date;
    uint32_t first_advisory;
    uint32_t advisory_count;
} glass_tcb_level;

typedef struct glass_levels {
    glass_tcb_level *level; /* owned */
    size_t count;
    glass_slice *advisory;  /* owned table of slices into the document */
    size_t advisory_count;
    size_t level_room;
    size_t advisory_room;
} glass_levels;

void glass_levels_clear(glass_levels *levels);
/* Room for one more; glass_levels_add gives a zeroed level. */
GLASS_MUST_USE glass_status glass_levels_add(glass_levels *levels, glass_tcb_level **out);
/* A glass_tcb_reader reads the value of "tcb" of one level of the document `of`. */
typedef glass_status glass_tcb_reader(glass_tcb_level *level, glass_json *json, const void *of);
/* glass_levels_read reads the array "tcbLevels": date, a known status, advisories, and what `read_tcb` reads. */
GLASS_MUST_USE glass_status glass_levels_read(glass_levels *levels, glass_slice array, glass_tcb_reader *read_tcb, const void *of);
/* glass_levels_sort puts the highest first and refuses an empty list and two levels with the same SVNs. */
GLASS_MUST_USE glass_status glass_levels_sort(glass_levels *levels);
glass_tcb_status glass_tcb_status_of(glass_slice name);

typedef enum glass_tee_id { GLASS_ID_OTHER = 0, GLASS_ID_SGX, GLASS_ID_TDX, GLASS_ID_QE } glass_tee_id;

typedef struct glass_tcb_info {
    uint64_t version;
    glass_slice id_text;     /* at NULL in version 2 */
    glass_tee_id id;
    int64_t issued;
    int64_t next_update;
    uint8_t fmspc[6];
    uint8_t pceid[2];
    uint64_t tcb_type;
    uint32_t evaluation;
    bool levels_good;
    glass_levels levels;
} glass_tcb_info;

/* glass_tcb_info_read reads the object; GLASS_ERR_FORMAT if anything but the levels is malformed, which `levels_good` says.
 * Release with glass_levels_clear(&info->levels), also after a failure. */
GLASS_MUST_USE glass_status glass_tcb_info_read(glass_tcb_info *info, glass_slice object);

typedef struct glass_qe_identity {
    uint64_t version;
    glass_slice id_text;
    glass_tee_id id;
    int64_t issued;
    int64_t next_update;
    uint32_t evaluation;
    uint8_t miscselect[4];
    uint8_t miscselect_mask[4];
    uint8_t attributes[16];
    uint8_t attributes_mask[16];
    uint8_t mrsigner[32];
    uint16_t isvprodid;
    bool levels_good;
    glass_levels levels;
} glass_qe_identity;

GLASS_MUST_USE glass_status glass_qe_identity_read(glass_qe_identity *identity, glass_slice object);

#endif
